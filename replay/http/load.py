"""How much is sent at once and for how long it is waited for, where that is not the trace's own rhythm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from toolkit.errors import SettingFailure


@dataclass(frozen=True)
class Load:
    """`concurrency`: so many requests under way at all times, in the trace's order, whenever that is.

    `drain_s`: how long after the last arrival an answer is waited for; null is as long as it takes.
    """

    concurrency: int | None = None
    drain_s: float | None = None

    def check(self, workers: int, most: int | None) -> None:
        """Raise SettingFailure for what cannot be together."""
        if self.concurrency is None:
            return
        if most is not None:
            raise SettingFailure("says already how many are let in", where="--concurrency", hint="drop --max-inflight")
        if self.concurrency < workers:
            raise SettingFailure(f"{self.concurrency} cannot be shared by {workers} workers", where="--concurrency")

    def planned(self, trace: pl.DataFrame, answered: Mapping[int, float]) -> pl.DataFrame:
        """The trace as it is sent: in a closed loop all may begin at once, or after what was answered before."""
        if self.concurrency is None:
            return trace
        return trace.with_columns(arrival_s=pl.lit(max(answered.values(), default=0.0)))

    def of_worker(self, k: int, workers: int, trace: pl.DataFrame, by_clock: Any) -> dict[str, Any]:
        """A worker's part, as its settings."""
        last_s = trace["arrival_s"].filter(pl.Series(by_clock)).max()
        return {"concurrency": share(self.concurrency, workers, k), "drain_s": self.drain_s, "last_s": last_s or 0.0}


def share(most: int | None, workers: int, k: int) -> int | None:
    """A worker's part of what may be under way."""
    return None if most is None else most // workers + (k < most % workers)
