"""Requests model by model (or tenant by tenant): a lane each, in parts of time that can be put together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.categories import Categories
from toolkit.analysis.windows import turns, window_of
from toolkit.grouping import Groups, grouped_few

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Name = str | None
MINUTE_S = 60.0
NS = 1e9  # in a second: what sums are made of, whole, so that no order of adding up can change them


@dataclass(frozen=True)
class Lanes:
    """Arrivals lane by lane: `time_s` in the groups' order, `gap_s` since the lane's last request (−∞ at its first)."""

    names: list[Name]
    groups: Groups
    time_s: Floats
    gap_s: Floats

    @classmethod
    def of(cls, name: pl.Series, arrival_s: Floats) -> "Lanes":
        """Of a part with a request at least."""
        groups = grouped_few(Categories(name).numbers)
        time_s = arrival_s.take(groups.order)
        gap_s = np.empty_like(time_s)
        np.subtract(time_s[1:], time_s[:-1], out=gap_s[1:])
        gap_s[groups.starts[:-1]] = -np.inf
        names = name.gather(groups.order[groups.starts[:-1]]).cast(pl.String).to_list()
        return cls(names, groups, time_s, gap_s)


@dataclass(frozen=True)
class Minutes:
    """Requests in whole minutes: of each lane how many, and the sum of the minutes' squared counts.

    `lane`, `minute` and `count` are each lane's first and last minute, of which a neighbouring part may have more;
    `squares` is of those in between.
    """

    requests: Ints
    squares: Ints
    lane: Ints
    minute: Ints
    count: Ints

    @classmethod
    def of(cls, lanes: Lanes, minutes: int) -> "Minutes":
        """Of the first `minutes` minutes."""
        starts, times = lanes.groups.starts, len(lanes.time_s)
        begins = np.union1d(starts[:-1], turns(lanes.time_s, MINUTE_S)[0])
        counts, minute = np.diff(begins, append=times), window_of(lanes.time_s[begins], MINUTE_S)
        whole = minute < minutes
        begins, counts, minute = begins[whole], counts[whole], minute[whole]
        low, high = (np.searchsorted(begins, edge) for edge in (starts[:-1], starts[1:]))
        inner_low, inner_high = np.minimum(low + 1, high), np.maximum(high - 1, low)
        upto, squares = (np.append(0, np.cumsum(each)) for each in (counts, counts**2))
        ends = np.unique(np.concatenate([low[low < high], high[low < high] - 1]))
        return cls(
            upto[high] - upto[low],
            np.maximum(squares[inner_high] - squares[inner_low], 0),
            np.searchsorted(high, ends, side="right"),
            minute[ends],
            counts[ends],
        )

    @staticmethod
    def merged(parts: "Sequence[Minutes]", lane_of: Sequence[Ints], lanes: int) -> "Minutes":
        """Parts in order of time, whose lanes have these numbers among so many."""
        requests, squares = np.zeros(lanes, dtype=np.int64), np.zeros(lanes, dtype=np.int64)
        for part, own in zip(parts, lane_of, strict=True):
            requests[own] += part.requests
            squares[own] += part.squares
        lane = np.concatenate([own[part.lane] for part, own in zip(parts, lane_of, strict=True)])
        minute, count = (np.concatenate([getattr(part, name) for part in parts]) for name in ("minute", "count"))
        order = np.lexsort((minute, lane))
        lane, minute, count = lane[order], minute[order], count[order]
        if len(lane):
            first = np.flatnonzero(_differs(lane) | _differs(minute))
            lane, minute, count = lane[first], minute[first], np.add.reduceat(count, first)
        begins = _differs(lane)
        inner = ~(begins | np.append(begins[1:], True)[: len(lane)])
        np.add.at(squares, lane[inner], count[inner] ** 2)
        return Minutes(requests, squares, lane[~inner], minute[~inner], count[~inner])

    @property
    def all_squares(self) -> Ints:
        """Of the whole trace, of which nothing is left out."""
        found = self.squares.copy()
        np.add.at(found, self.lane, self.count**2)
        return found


@dataclass(frozen=True)
class LaneActivity:
    """What each lane does in a stretch of time, lane by lane; times count from the whole trace's first arrival.

    `spells` are how many stretches of activity each lane has, in time's order, from `wakes_s` to the request at
    `sleeps_s`.
    """

    names: tuple[Name, ...]
    requests: Ints
    first_s: Floats
    last_s: Floats
    longest_s: Floats  # gap; minus infinity with one request
    idle: Ints  # gaps above the threshold
    idle_ns: Ints  # and how long they are together
    minutes: Minutes
    spells: Ints
    wakes_s: Floats
    sleeps_s: Floats

    @classmethod
    def of(cls, lanes: Lanes, threshold_s: float, minutes: int, active_s: float) -> "LaneActivity":
        """Of a part, whose lanes are active for so long after a request, in so many whole minutes of the trace."""
        starts, gap_s = lanes.groups.starts, lanes.gap_s
        long = np.flatnonzero(gap_s > min(threshold_s, active_s))
        idle = long[gap_s[long] > threshold_s]
        wakes = np.sort(np.concatenate([starts[:-1], long[gap_s[long] > active_s]]))
        sleeps = np.append(wakes[1:], starts[-1]) - 1  # a spell's last request is before the next spell's first
        idle_ns = np.append(0, np.cumsum(np.rint(gap_s[idle] * NS).astype(np.int64)))
        return cls(
            tuple(lanes.names),
            np.diff(starts).astype(np.int64),
            lanes.time_s[starts[:-1]],
            lanes.time_s[starts[1:] - 1],
            np.maximum.reduceat(gap_s, starts[:-1]),
            np.diff(np.searchsorted(idle, starts)),
            np.diff(idle_ns[np.searchsorted(idle, starts)]),
            Minutes.of(lanes, minutes),
            np.diff(np.searchsorted(wakes, starts)),
            lanes.time_s[wakes],
            lanes.time_s[sleeps],
        )

    @staticmethod
    def merged(parts: "Sequence[LaneActivity]", threshold_s: float, active_s: float) -> "LaneActivity":
        """Parts that follow each other as one, with the gaps between them."""
        place = {name: k for k, name in enumerate(dict.fromkeys(name for part in parts for name in part.names))}
        lane_of = [np.array([place[name] for name in part.names], dtype=np.int64) for part in parts]
        order = np.argsort(np.concatenate(lane_of), kind="stable")
        lane = np.concatenate(lane_of)[order]

        def together(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])[order]

        begins = np.flatnonzero(_differs(lane))
        first_s, last_s, spells = together("first_s"), together("last_s"), together("spells")
        gap_s = np.append(-np.inf, first_s[1:] - last_s[:-1])
        gap_s[begins] = -np.inf
        idle, same = gap_s > threshold_s, (gap_s <= active_s) & ~_differs(lane)  # a spell that goes on
        idle_ns = np.rint(np.where(idle, gap_s, 0) * NS).astype(np.int64)
        wakes, sleeps = np.ones(spells.sum(), dtype=bool), np.ones(spells.sum(), dtype=bool)
        following = np.cumsum(spells) - spells
        wakes[following[same]] = sleeps[following[same] - 1] = False
        return LaneActivity(
            tuple(place),
            np.add.reduceat(together("requests"), begins),
            first_s[begins],
            last_s[np.append(begins[1:], len(lane)) - 1],
            np.maximum.reduceat(np.maximum(together("longest_s"), gap_s), begins),
            np.add.reduceat(together("idle") + idle, begins),
            np.add.reduceat(together("idle_ns") + idle_ns, begins),
            Minutes.merged([part.minutes for part in parts], lane_of, len(place)),
            np.add.reduceat(spells - same, begins),
            _reordered([part.wakes_s for part in parts], [part.spells for part in parts], order)[wakes],
            _reordered([part.sleeps_s for part in parts], [part.spells for part in parts], order)[sleeps],
        )

    @property
    def lane(self) -> Ints:
        """The lane of each spell."""
        return np.repeat(np.arange(len(self.names)), self.spells)

    def sorted(self, order: Sequence[int]) -> "LaneActivity":
        """Of a whole trace, these lanes in this order."""
        chosen, nothing = np.array(order, dtype=np.int64), np.zeros(0, dtype=np.int64)
        by_lane = ("requests", "first_s", "last_s", "longest_s", "idle", "idle_ns", "spells")
        minutes = Minutes(self.minutes.requests[chosen], self.minutes.all_squares[chosen], nothing, nothing, nothing)
        return replace(
            self,
            names=tuple(self.names[k] for k in order),
            minutes=minutes,
            **{name: getattr(self, name)[chosen] for name in by_lane},
            wakes_s=_reordered([self.wakes_s], [self.spells], chosen),
            sleeps_s=_reordered([self.sleeps_s], [self.spells], chosen),
        )


def _reordered(times: Sequence[Floats], sizes: Sequence[Ints], order: Ints) -> Floats:
    """Stretches of so many times in another order."""
    size = np.concatenate(sizes)
    begin = (np.cumsum(size) - size)[order]
    size = size[order]
    at = np.arange(size.sum()) + np.repeat(begin - (np.cumsum(size) - size), size)
    there: Floats = np.concatenate(times)[at]
    return there


def _differs(values: Ints) -> NDArray[np.bool_]:
    """Where a value is not the one before it; the first is not."""
    differs = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=differs[1:])
    return differs
