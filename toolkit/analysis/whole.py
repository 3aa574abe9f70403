"""What each part of a trace must know of the whole before it can say its share."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from toolkit.traces import TraceInfo


@dataclass(frozen=True)
class Whole:
    """A trace as all of its parts know it: requests with an arrival, the first and the last of them.

    `seen` is what a second look has to know of all parts, as the analysis' `told` says it; `part` is the number of the
    part that is asked.
    """

    info: TraceInfo
    requests: int
    first_s: float = 0.0
    last_s: float = 0.0
    seen: Any = None
    part: int = 0

    @classmethod
    def of(cls, frame: pl.DataFrame, info: TraceInfo) -> "Whole":
        """Of a trace in one piece; of its rows where times are not among its columns."""
        if "arrival_s" not in frame.columns:
            return cls(info, frame.height)
        known = frame["arrival_s"].drop_nulls()
        return cls(info, len(known), known[0], known[-1]) if len(known) else cls(info, 0)

    @property
    def span_s(self) -> float:
        return self.last_s - self.first_s
