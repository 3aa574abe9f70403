"""A sweep on three nodes gives the table of a sweep here, also when one of them is lost in the middle."""

import threading
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from tests.on_ray.conftest import Three
from tests.replay.clusters import several
from tests.replay.sweep.conftest import CLUSTER
from toolkit.cli import main
from toolkit.sweeps import SweepFolder
from toolkit.traces import Trace, TraceInfo, write_trace

pytest.importorskip("ray", reason="Ray is not installed; make test-ray does")
pytestmark = [pytest.mark.slow, pytest.mark.ray]
SPEC = (
    "trace: t.parquet\ncluster: cluster.yaml\nschedulers: [fcfs, srpt]\ngpus: [1, 2]\nload: [1, 1.5]\nseeds: [0, 1]\n"
)
SPEC += "slo_scale: [[4, 2]]\n"
WORKLOAD = "span_s: 30\nstreams:\n- {rate_per_s: 4, models: {count: 3}, prompt_tokens: 90, output_tokens: 40}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = several(["a", "b", "c"], 240, 8.0, seed=3)
    info = TraceInfo("tiny", "canonical", "0" * 64, 240, 240, span_s=float(frame["arrival_s"][-1]))
    write_trace(Trace(frame.lazy(), info), tmp_path / "t.parquet")
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    return tmp_path


def swept(folder: Path, out: str, *more: str) -> pl.DataFrame:
    """The table without what depends on the machine."""
    done = CliRunner().invoke(main, ["sweep", str(folder / "sweep.yaml"), "--out", str(folder / out), *more])
    assert done.exit_code == 0, done.output
    return SweepFolder.open(folder / out).table().drop("simulation_cpu_s")


def test_the_table_is_the_same_also_when_a_node_is_lost(three: Three, folder: Path) -> None:
    here = swept(folder, "here", "--workers", "1")
    assert_frame_equal(swept(folder, "there", "--on", "ray"), here, check_exact=True)
    timer = threading.Timer(0.5, three.lose)
    timer.start()
    assert_frame_equal(swept(folder, "robbed", "--on", "ray"), here, check_exact=True)
    timer.join()


def test_a_workload_travels_as_its_text(three: Three, folder: Path) -> None:
    (folder / "w.yaml").write_text(WORKLOAD.replace("count: 3", "shares: {a: 1, b: 1, c: 1}"))
    (folder / "sweep.yaml").write_text(SPEC.replace("trace: t.parquet", "workload: w.yaml"))
    here = swept(folder, "here", "--workers", "1")
    assert_frame_equal(swept(folder, "there", "--on", "ray"), here, check_exact=True)
