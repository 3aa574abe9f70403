"""A cluster's replay that is stopped and continued is the one that was not."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from replay.cluster import driver as driver_module
from replay.cluster.checkpoint import NAME, Plain
from replay.engines.cluster import ClusterEngine
from tests.replay import clusters
from tests.replay.clusters import cluster_of, several
from toolkit import plugins
from toolkit.errors import RunFailure
from toolkit.runs import Run, RunWriter
from toolkit.traces import TraceInfo

MODELS = list("abcde")
CHAOTIC = f"{clusters.__file__}:Chaotic:seed=1"
MODULE = b"replay.placements.plan"
PLACED_BEFORE = ("static", "muxserve++")
TABLES = {
    "outcomes": ["request_id"],
    "timeline": ["time_s", "gpu", "model", "queue", "running", "kv_bytes"],
    "events": ["time_s", "kind", "gpu", "model", "request_id", "bytes"],
}


class Counting:
    """Stops when it has been asked for the last time that it allows."""

    def __init__(self, most: int):
        self.most, self.asked = most, 0

    def progress(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool:
        self.asked += 1
        return self.asked > self.most


def _replay(spec: str, folder: Path, watch: Counting, scheduler: str = "mlfq") -> bool:
    objectives = {"slo_ttft_s": pl.lit(0.2), "slo_tpot_s": pl.lit(0.05)}
    trace = several(MODELS, 200, 5.0, seed=4).with_columns(**objectives)
    info = TraceInfo("test", "test", "", len(trace), len(trace), span_s=float(trace["arrival_s"].max()))  # type: ignore[arg-type]
    gpus = 3 if spec in PLACED_BEFORE else 2  # of five models two GPUs hold four
    engine = ClusterEngine(cluster_of(MODELS, gpus=gpus, weight_bytes=30 * 2**30), spec, band=False)
    return engine.replay(trace, info, plugins.create("scheduler", scheduler), _writer(folder), watch)


def _writer(folder: Path) -> RunWriter:
    return RunWriter(folder, Run.open(folder).info) if (folder / "run.json").exists() else _begun(folder)


def _begun(folder: Path) -> RunWriter:
    writer = RunWriter(folder, {"run_id": "test"})
    writer.update(state="running")
    return writer


def _tables(folder: Path) -> dict[str, pl.DataFrame]:
    run = Run.open(folder)
    return {name: run.table(name).sort(keys, nulls_last=True).collect() for name, keys in TABLES.items()}


def _same(a: Path, b: Path) -> bool:
    one, other = _tables(a), _tables(b)
    return all(one[name].equals(other[name]) for name in TABLES) and one["events"].height > 0


@pytest.fixture
def small_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "BITE", 200)


@pytest.mark.usefixtures("small_bites")
@pytest.mark.parametrize("spec", sorted(plugins.BUILTIN["placement"]))
def test_a_replay_cut_in_two_is_the_uncut_one(spec: str, tmp_path: Path) -> None:
    whole = Counting(10**9)
    assert _replay(spec, tmp_path / "whole", whole)
    for left in (2, 9) if spec == "oracle" else (2, whole.asked // 2, 4 * whole.asked // 5):
        folder = tmp_path / str(left)
        assert not _replay(spec, folder, Counting(whole.asked - left))
        assert (folder / NAME).exists()
        assert _replay(spec, folder, Counting(10**9))
        assert _same(tmp_path / "whole", folder)
        assert Run.open(folder).info["decisions"] == Run.open(tmp_path / "whole").info["decisions"]
        assert not (folder / NAME).exists()


@pytest.mark.usefixtures("small_bites")
@pytest.mark.parametrize(("spec", "scheduler"), [("prism", "moore-hodgson"), (CHAOTIC, "fcfs")])
def test_what_has_a_memory_that_is_not_saved_starts_over(spec: str, scheduler: str, tmp_path: Path) -> None:
    assert _replay(spec, tmp_path / "whole", Counting(10**9), scheduler)
    assert not _replay(spec, tmp_path / "cut", Counting(5), scheduler)
    assert not (tmp_path / "cut" / NAME).exists()
    assert _replay(spec, tmp_path / "cut", Counting(10**9), scheduler)
    assert _same(tmp_path / "whole", tmp_path / "cut")


class Hostile:
    """Runs something when it is read."""

    def __init__(self, what: Any):
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what, ("true",)


@pytest.mark.usefixtures("small_bites")
@pytest.mark.parametrize("held", [Hostile(os.system), Hostile(plugins.create), Hostile(RunWriter)])
def test_nothing_but_numbers_and_our_placements_is_read(held: Hostile, tmp_path: Path) -> None:
    assert not _replay("lru", tmp_path, Counting(5))
    with np.load(tmp_path / NAME) as file:
        saved = dict(file)
    saved["placement"] = np.frombuffer(pickle.dumps(held), np.uint8)
    np.savez(tmp_path / NAME, **saved)
    with pytest.raises(RunFailure, match="does not belong into a checkpoint; delete it to start over"):
        _replay("lru", tmp_path, Counting(10**9))


def test_a_name_with_a_dot_reaches_nothing_that_a_module_of_ours_imports() -> None:
    for name in ("np.fromfile", "bisect_left", "np"):
        memory = (
            b"\x80\x04\x8c" + bytes([len(MODULE)]) + MODULE + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        )
        with pytest.raises(pickle.UnpicklingError, match=f"{name} does not belong"):
            Plain(io.BytesIO(memory)).load()
