"""A micro-batch replay that stays in memory, and the batches it served."""

from typing import Any

import polars as pl

from replay.engines.micro_batch import MicroBatch
from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, Collected, Unwatched
from toolkit.protocols import LatencyModel, Scheduler
from toolkit.traces import TraceInfo


class Folder(Collected):
    """A run folder in memory that is begun anew, and keeps its results."""

    def truncate(self, counts: dict[str, int]) -> None:
        self.tables.clear()

    def finish(self, **results: Any) -> None:
        self.results = {k: v for k, v in results.items() if k != "simulation_cpu_s"}


def serve(
    trace: pl.DataFrame, scheduler: Scheduler, limits: Limits, latency: LatencyModel | None = None, **protocol: float
) -> Folder:
    """Replay `trace` to its end in batches."""
    protocol = {"batch_size": min(32, limits.max_num_seqs), **protocol}
    engine = MicroBatch(latency or Affine(), limits, **protocol)  # type: ignore[arg-type]
    folder = Folder()
    info = TraceInfo("test", "test", "", len(trace), len(trace))
    assert engine.replay(trace, info, scheduler, folder, Unwatched())  # type: ignore[arg-type]
    return folder


def outcomes(folder: Folder) -> pl.DataFrame:
    return folder.table("outcomes").sort("request_id")


def batches(folder: Folder) -> pl.DataFrame:
    """One row a batch: when it started and ended, and its requests."""
    served = outcomes(folder).filter(pl.col("status") == "ok")
    ends = served.group_by("start_s").agg("finish_s", "request_id")
    return ends.sort("start_s").with_columns(ends=pl.col("finish_s").list.n_unique(), end_s=pl.col("finish_s").list[0])
