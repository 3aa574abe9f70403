"""How many requests are between arrival and measured end, part by part: what a part must know of the others."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.known import known
from toolkit.analysis.levels import Level, Windows
from toolkit.analysis.whole import Whole

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """A part with arrivals: its first and last, the requests that the source measured, and when the last of these ends.

    `outside` are the ends that do not lie after the first and up to the last arrival: those of requests in flight when
    the part ends.
    """

    first_s: float
    last_s: float
    measured: int
    end_s: float
    outside: Floats

    @classmethod
    def of(cls, frame: pl.DataFrame) -> "Reach | None":
        """Of a part; null where nothing arrived."""
        arrival_s = frame["arrival_s"].drop_nulls()
        if not len(arrival_s):
            return None
        first_s, last_s = float(arrival_s[0]), float(arrival_s[-1])
        begin_s, end_s = ends_of(stays(frame))
        latest_s = max(begin_s.max(initial=-np.inf), end_s.max(initial=-np.inf))
        return cls(first_s, last_s, len(end_s), float(latest_s), end_s[(end_s <= first_s) | (end_s > last_s)])


def stays(frame: pl.DataFrame) -> pl.DataFrame:
    """When each measured request arrived, and how long it stayed."""
    return known(frame.select("arrival_s", "source_e2e_s"))


def ends_of(measured: pl.DataFrame) -> tuple[Floats, Floats]:
    """When each request arrived and ended."""
    begin_s = measured["arrival_s"].to_numpy()
    return begin_s, begin_s + measured["source_e2e_s"].to_numpy()


def windows_of(whole: Whole) -> Windows | None:
    """The windows in which requests in flight are counted; null where the source measured none."""
    latest_s = max((reach.end_s for reach in whole.seen if reach), default=-np.inf)
    if np.isinf(latest_s):
        return None
    return Windows.upto(latest_s - whole.first_s, whole.info.clock_step_s)


def in_flight(measured: pl.DataFrame, whole: Whole) -> Level | None:
    """A part's share of the time: since the last arrival of the part before, up to its own; null where none has any."""
    windows, reach = windows_of(whole), whole.seen[whole.part]
    if windows is None or reach is None:
        return None
    before = [other for other in whole.seen[: whole.part] if other]
    after = any(whole.seen[whole.part + 1 :])
    start_s = before[-1].last_s if before else -np.inf
    stop_s = reach.last_s if after else np.inf
    begin_s, end_s = ends_of(measured)
    outside = np.concatenate([other.outside for other in whole.seen if other])
    own = end_s[(reach.first_s < end_s) & (end_s <= reach.last_s)]
    ends = np.sort(np.concatenate([own, outside[(start_s < outside) & (outside <= stop_s)]]))
    ended = sum(other.measured - len(other.outside) for other in before) + int((outside <= start_s).sum())
    there = sum(other.measured for other in before) - ended
    from_s = whole.first_s
    return Level.between(begin_s - from_s, ends - from_s, windows, there, (start_s - from_s, stop_s - from_s))
