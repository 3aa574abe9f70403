"""`trace analyze --on ray` says byte for byte what it says here, also when a node is lost in the middle."""

import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.on_ray.conftest import Three
from tests.toolkit.test_analyses_in_parts import made, written
from toolkit import analyses_in_parts
from toolkit.cli import main
from toolkit.on_ray import RayTasks
from workloads import parts

pytest.importorskip("ray", reason="Ray is not installed; make test-ray does")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


def analysed(named: str, *more: str) -> str:
    done = CliRunner().invoke(main, ["analyze", named, "--json", *more])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file a part of its own, and rows that belong together in several shares."""
    monkeypatch.setattr(parts, "SLICES_ROWS", 1)
    monkeypatch.setattr(analyses_in_parts, "SHARE_ROWS", 20_000)


def test_the_answer_is_the_same_also_when_a_node_is_lost(three: Three, tmp_path: Path, split: None) -> None:
    frame = made(np.random.default_rng(2), 60_000, step_s=0, measured=True, sessions=True)
    named = written(frame, list(range(5_000, 60_000, 5_000)), tmp_path)
    here = analysed(named, "--groups")
    assert analysed(named, "--groups", "--on", "ray") == here
    timer = threading.Timer(1.0, three.lose)
    timer.start()
    assert analysed(named, "--drift", "--on", "ray") == analysed(named, "--drift")
    timer.join()


def test_what_was_found_on_a_node_that_is_lost_is_found_again(
    three: Three, tmp_path: Path, split: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node goes when all parts are read, and what it found of them waits to be brought together."""
    frame = made(np.random.default_rng(3), 120_000, step_s=0, measured=False, sessions=True)
    named = written(frame, list(range(10_000, 120_000, 10_000)), tmp_path)
    small, ended = RayTasks.end, []

    def losing(executor: RayTasks, begun: object) -> object:
        found = small(executor, begun)
        ended.append(begun)
        if len(ended) == 12:
            three.lose()
        return found

    monkeypatch.setattr(RayTasks, "end", losing)
    assert analysed(named, "--on", "ray") == analysed(named)
    assert len(ended) > 12


def test_many_small_parts(three: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SLICES_ROWS", 300)
    frame = made(np.random.default_rng(4), 6_000, step_s=3, measured=True, sessions=True)
    for k in range(80):
        frame[75 * k : 75 * k + 75].write_parquet(tmp_path / f"{k:04d}.parquet")
    assert analysed(str(tmp_path), "--on", "ray") == analysed(str(tmp_path))


def test_workers_read_a_store_themselves(three: Three) -> None:
    (three.objects / "day").mkdir()
    frame = made(np.random.default_rng(2), 12_000, step_s=0, measured=False, sessions=False)
    named = written(frame, list(range(2_000, 12_000, 2_000)), three.objects / "day")
    assert analysed("s3://day/*.parquet", "--on", "ray") == analysed(named)


def test_a_selection_is_refused(three: Three, tmp_path: Path) -> None:
    named = written(made(np.random.default_rng(2), 60, step_s=0, measured=False, sessions=False), [30], tmp_path)
    done = CliRunner().invoke(main, ["analyze", named, "--on", "ray", "--limit", "3"])
    assert done.exit_code == 1
    assert "--on: reads the whole trace; write the selection to a file first" in done.output
