"""How many of something there are at once, over time; found in stretches of time, each by itself.

Time is summed in ticks, whole numbers, so that no order of adding up can change a sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.windows import EDGE, fitting_window_s

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TICK_BITS = 42  # of the whole time: a hundred millionth of a second of a day, and room for a million at once

_f, _i = pl.Float64(), pl.Int64()
CONCURRENCY = pl.Schema({"start_s": _f, "window_s": _f, "mean": _f, "max": _i})


@dataclass(frozen=True)
class Windows:
    """Windows back to back from 0 to `end_s`."""

    window_s: float
    end_s: float

    @classmethod
    def upto(cls, end_s: float, clock_step_s: float | None) -> "Windows":
        return cls(fitting_window_s(end_s, clock_step_s), end_s)

    @cached_property
    def edges_s(self) -> Floats:
        count = max(1, int(np.ceil(self.end_s / self.window_s - EDGE)))
        edges_s: Floats = np.minimum(np.arange(count + 1) * self.window_s, self.end_s)
        return edges_s

    def ticks(self, time_s: Floats) -> Ints:
        """Times from 0 to the end as whole numbers."""
        tick_s = 2.0 ** (np.ceil(np.log2(max(self.end_s, 1e-9))) - TICK_BITS)
        found: Ints = np.rint(np.clip(time_s, 0, self.end_s) / tick_s).astype(np.int64)
        return found


@dataclass(frozen=True)
class Level:
    """How many there are in a stretch of time: by window, and for how long how many; in ticks."""

    area: Ints  # of each window, the ticks spent there by each
    most: Ints  # at once in each window
    spent: Ints  # how long there were none, one, two, …
    highest: int

    @classmethod
    def of(cls, begin_s: Floats, end_s: Floats, windows: Windows) -> "Level":
        """Of all that there are; begins and ends ascend."""
        return cls.between(begin_s, end_s, windows, 0, (-np.inf, np.inf))

    @classmethod
    def between(
        cls, begin_s: Floats, end_s: Floats, windows: Windows, before: int, stretch_s: tuple[float, float]
    ) -> "Level":
        """Of a stretch of time with what begins and ends in it, both ascending, where there were `before`."""
        time_s, count = changes(begin_s, end_s, before)
        start_s, stop_s = stretch_s
        at = windows.ticks(np.concatenate([[start_s], time_s, [stop_s]]))
        level = np.append(max(before, 0), count)
        lasting = np.diff(at)
        upto = np.append(0, np.cumsum(level * lasting))
        edges = np.clip(windows.ticks(windows.edges_s), at[0], at[-1])
        place = np.minimum(np.searchsorted(at, edges, side="right") - 1, len(level) - 1)
        area = np.diff(upto[place] + level[place] * (edges - at[place]))
        spent = np.bincount(level, weights=lasting).astype(np.int64)  # exact, as all together are below 2^53
        return cls(area, _most(time_s, level, windows, stretch_s), spent, int(count.max(initial=0)))

    @staticmethod
    def merged(parts: "Sequence[Level]") -> "Level":
        """Stretches that make up the whole time."""
        spent = np.zeros(max(len(part.spent) for part in parts), dtype=np.int64)
        for part in parts:
            spent[: len(part.spent)] += part.spent
        area, most = np.sum([p.area for p in parts], axis=0), np.max([p.most for p in parts], axis=0)
        return Level(area, most, spent, max(p.highest for p in parts))

    @property
    def mean(self) -> float | None:
        """Over the whole time; null where there is none."""
        whole = int(self.spent.sum())
        return int(self.area.sum()) / whole if whole else None

    def quantile(self, q: float) -> int:
        """By time."""
        return int(np.searchsorted(np.cumsum(self.spent), q * int(self.spent.sum())))

    def table(self, windows: Windows) -> pl.DataFrame:
        """CONCURRENCY: mean over time and maximum in windows back to back."""
        wide = np.diff(windows.ticks(windows.edges_s))
        mean = self.area / np.where(wide > 0, wide, 1)
        columns = {"start_s": windows.edges_s[:-1], "window_s": np.full(len(wide), windows.window_s), "mean": mean}
        return pl.DataFrame(columns | {"max": self.most}, schema=CONCURRENCY)


def changes(begin_s: Floats, end_s: Floats, before: int) -> tuple[Floats, Ints]:
    """When the count changes, and to what; at the same instant an end counts first."""
    place = np.arange(len(begin_s)) + np.searchsorted(end_s, begin_s, side="right")
    begins = np.zeros(len(begin_s) + len(end_s), dtype=bool)
    begins[place] = True
    time_s = np.empty(len(begins))
    time_s[begins], time_s[~begins] = begin_s, end_s
    # What has no length ends before it begins: not below zero.
    return time_s, np.maximum(before + np.cumsum(np.where(begins, 1, -1), dtype=np.int64), 0)


def _most(time_s: Floats, level: Ints, windows: Windows, stretch_s: tuple[float, float]) -> Ints:
    """The largest count in each window: the one that stands when it begins, or one that comes later."""
    edges_s, most = windows.edges_s, list[int]()
    for start_s, (first, last) in zip(edges_s, pairwise(np.searchsorted(time_s, edges_s, side="right")), strict=False):
        stands = stretch_s[0] <= start_s < stretch_s[1]
        most.append(int(level[first + (not stands) : last + 1].max(initial=0)))
    return np.array(most)
