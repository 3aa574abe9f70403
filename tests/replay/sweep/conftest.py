"""A tiny trace, a cluster and sweeps of them."""

from pathlib import Path

import pytest

from tests.replay.clusters import several
from toolkit.traces import Trace, TraceInfo, write_trace

CLUSTER = """
gpus: [{type: h100, count: 1}]
models:
  - {name: a, preset: llama-3.1-8b}
  - {name: b, preset: llama-3.1-8b}
  - {name: c, preset: llama-3.1-8b}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with t.parquet, 240 requests of three models, and cluster.yaml."""
    folder = tmp_path_factory.mktemp("sweep")
    frame = several(["a", "b", "c"], 240, 8.0, seed=3)
    span_s = float(frame["arrival_s"].max())  # type: ignore[arg-type]
    info = TraceInfo("tiny", "canonical", "0" * 64, 240, 240, span_s=span_s)
    write_trace(Trace(frame.lazy(), info), folder / "t.parquet")
    (folder / "cluster.yaml").write_text(CLUSTER)
    return folder


@pytest.fixture
def spec(tiny: Path, tmp_path: Path) -> Path:
    """Where a test's SWEEP.yaml goes, with the trace and the cluster beside it."""
    for name in ("t.parquet", "cluster.yaml"):
        (tmp_path / name).symlink_to(tiny / name)
    return tmp_path / "sweep.yaml"
