"""The gaps between arrivals, counted: exactly up to some millions, beyond that to one part in 4,096."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from toolkit.counted import Counted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
EXACT = 2**21  # gaps
SLICE = 2**18  # gaps that are looked at at once
DROPPED = np.uint64(40)  # of a double's 52 bits of fraction; 12 stay


@dataclass(frozen=True)
class Gaps:
    """Gaps of a part of time, counted as they are, or by bin: then zeros, the smallest and the largest stand apart.

    The bits of a positive double ascend as the number does, so their upper part is the number of a bin whose width is
    1/4,096 of its values or less; a bin counts as its middle, the smallest and the largest gap as they are.
    """

    exact: bool
    sample: Counted  # of gaps, or of bins
    zeros: int = 0
    least: float = inf
    most: float = 0.0

    @classmethod
    def between(cls, arrival_s: Floats, *, exact: bool) -> "Gaps":
        """Between ascending times; where they are binned, without sorting them."""
        if exact:
            return cls(True, Counted.of_sorted(np.sort(np.diff(arrival_s))))
        zeros, least, most, bins = 0, inf, 0.0, list[tuple[int, Ints]]()
        for gaps in _slices(arrival_s):
            if not gaps.min() > 0:
                above = gaps[gaps > 0]
                zeros, gaps = zeros + len(gaps) - len(above), above
            if len(gaps):
                least, most = min(least, float(gaps.min())), max(most, float(gaps.max()))
                bins.append(_histogram(gaps))
        return cls(False, _added(bins), zeros, least, most)

    @staticmethod
    def merged(parts: "Sequence[Gaps]") -> "Gaps":
        """All parts' gaps together."""
        return Gaps(
            parts[0].exact,
            Counted.merged([p.sample for p in parts]),
            sum(p.zeros for p in parts),
            min(p.least for p in parts),
            max(p.most for p in parts),
        )

    @property
    def counted(self) -> Counted:
        """The gaps, a bin's as its middle."""
        if self.exact:
            return self.sample
        if not len(self.sample.values):
            return Counted(np.zeros(1), np.array([self.zeros]))
        values = _middle(self.sample.values.astype(np.uint64))
        values[0], values[-1] = self.least, self.most
        if not self.zeros:
            return Counted(values, self.sample.counts)
        return Counted(np.append(0.0, values), np.append(self.zeros, self.sample.counts))


def _histogram(gaps: Floats) -> tuple[int, Ints]:
    """The first bin that any of the positive gaps falls into, and how many fall into each from there on."""
    bins = (gaps.view(np.uint64) >> DROPPED).view(np.int64)
    first = int(bins.min())
    bins -= first
    return first, np.bincount(bins)


def _added(histograms: list[tuple[int, Ints]]) -> Counted:
    """Gaps by bin."""
    first = min((begin for begin, _ in histograms), default=0)
    counts = np.zeros(max((begin + len(each) for begin, each in histograms), default=0) - first, dtype=np.int64)
    for begin, each in histograms:
        counts[begin - first : begin - first + len(each)] += each
    found = np.flatnonzero(counts)
    return Counted((found + first).astype(np.float64), counts[found])


def _middle(bins: NDArray[np.uint64]) -> Floats:
    return ((bins << DROPPED) + (np.uint64(1) << (DROPPED - np.uint64(1)))).view(np.float64)


def _slices(arrival_s: Floats) -> Iterator[Floats]:
    for begin in range(0, len(arrival_s) - 1, SLICE):
        yield np.diff(arrival_s[begin : begin + SLICE + 1])
