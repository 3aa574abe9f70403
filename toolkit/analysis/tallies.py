"""How unevenly events fall into windows, from parts of time whose border may lie within a window."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tally:
    """Events in windows of ascending number: how many, and the sum of the windows' squared counts.

    `open` are the first and the last window with their counts (one where they are the same), for a neighbouring part
    may have more of them; `squares` is of those in between.
    """

    total: int = 0
    squares: int = 0
    open: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, windows: NDArray[np.int64], counts: NDArray[np.int64]) -> "Tally":
        """Of windows that ascend, each with its count."""
        if not len(windows):
            return cls()
        ends = [(int(windows[i]), int(counts[i])) for i in sorted({0, len(windows) - 1})]
        inner = counts[1:-1]
        return cls(int(counts.sum()), int(inner @ inner), tuple(ends))

    def joined(self, later: "Tally") -> "Tally":
        """With the events of a later part."""
        ends = list(_added(self.open + later.open))
        inner = sum(count**2 for _, count in ends[1:-1])
        kept = tuple(ends[:1] + ends[1:][-1:])
        return Tally(self.total + later.total, self.squares + later.squares + inner, kept)

    @property
    def all_squares(self) -> int:
        return self.squares + sum(count**2 for _, count in self.open)


def _added(ends: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Neighbours of the same window as one."""
    for window, same in groupby(ends, key=lambda end: end[0]):
        yield window, sum(count for _, count in same)
