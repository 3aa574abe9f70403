"""The gaps between arrivals, counted: exactly up to some millions, beyond that to one part in 4,096."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from toolkit.counted import Counted

Floats = NDArray[np.float64]
EXACT = 2**21  # gaps
SLICE = 2**20  # gaps that are looked at at once
DROPPED = np.uint64(40)  # of a double's 52 bits of fraction; 12 stay


def counted_gaps(arrival_s: Floats, *, exactly: bool) -> Counted:
    """Gaps of ascending times, without sorting them where there are many and `exactly` is false.

    The bits of a positive double ascend as the number does, so their upper part is the number of a bin whose width is
    1/4,096 of its values or less; a bin counts as its middle, the smallest and the largest gap as they are.
    """
    if exactly or len(arrival_s) <= EXACT:
        return Counted.of_sorted(np.sort(np.diff(arrival_s)))
    positive = [(part[part > 0].min(initial=np.inf), part.max(initial=0.0)) for part in _slices(arrival_s)]
    least, most = min(low for low, _ in positive), max(high for _, high in positive)
    if not least <= most:
        return Counted(np.zeros(1), np.array([len(arrival_s) - 1]))
    first, last = (int(_bin(np.array([gap]))[0]) for gap in (least, most))
    counts, zeros = np.zeros(last - first + 1, dtype=np.int64), 0
    for part in _slices(arrival_s):
        above = part[part > 0]
        zeros += len(part) - len(above)
        counts += np.bincount((_bin(above) - np.uint64(first)).astype(np.int64), minlength=len(counts))
    middles = _middle(np.arange(first, last + 1, dtype=np.uint64))
    middles[0], middles[-1] = least, most
    found = np.flatnonzero(counts)
    values, sizes = middles[found], counts[found]
    return Counted(np.append(0.0, values), np.append(zeros, sizes)) if zeros else Counted(values, sizes)


def _bin(gaps: Floats) -> NDArray[np.uint64]:
    return gaps.view(np.uint64) >> DROPPED


def _middle(bins: NDArray[np.uint64]) -> Floats:
    return ((bins << DROPPED) + (np.uint64(1) << (DROPPED - np.uint64(1)))).view(np.float64)


def _slices(arrival_s: Floats) -> Iterator[Floats]:
    for begin in range(0, len(arrival_s) - 1, SLICE):
        yield np.diff(arrival_s[begin : begin + SLICE + 1])
