"""Windows of time: how long, and what falls into each."""

import numpy as np
from numpy.typing import NDArray

LENGTHS_S = (
    *(0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800),
)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SLICE = 2**15  # times that are looked at at once: what is made of them stays in a core's cache
MANY = 16  # times in a window make looking up its edge cheaper
ROUNDING = 4e-15
EDGE = 1e-9  # of a window: stamps are sums of rounded decimals, one this close below an edge is on it


def fitting_window_s(span_s: float, clock_step_s: float | None, at_most: int = 240) -> float:
    """The shortest usual length, no shorter than the clock step, that cuts `span_s` into `at_most` windows."""
    shortest = max(span_s / at_most, clock_step_s or 0)
    return next((length for length in LENGTHS_S if length >= shortest), LENGTHS_S[-1])


def window_of(time_s: Floats, window_s: float) -> Ints:
    """The half-open window `[i·w, (i + 1)·w)` that each time from 0 on falls into."""
    place = time_s / window_s
    place += EDGE
    index: Ints = place.astype(np.int64)
    return index


def occupied(time_s: Floats, window_s: float, windows: int) -> tuple[Ints, Ints]:
    """Of the first `windows` windows those that any of the ascending times lies in, and how many do.

    Where windows are few, their edges are looked up instead of a window for every time.
    """
    if not len(time_s):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first, last = (int(i) for i in window_of(time_s[[0, -1]], window_s))
    if last - first < len(time_s) // MANY:
        number = np.arange(first, min(last + 1, windows))
        edges = (number + 1 - EDGE) * window_s
        before = np.searchsorted(time_s, edges * (1 - ROUNDING))
        following = time_s[np.minimum(before, len(time_s) - 1)]
        if ((following >= edges * (1 + ROUNDING)) | (before == len(time_s))).all():  # rounding decides for no time
            counts = np.diff(before, prepend=0)
            return number[counts > 0], counts[counts > 0]
    begin, number = turns(time_s, window_s)
    counts = np.diff(begin, append=len(time_s))
    return number[number < windows], counts[number < windows]


def turns(time_s: Floats, window_s: float) -> tuple[Ints, Ints]:
    """Where a time lies in another window than the one before it, and in which; the first does."""
    found = [(np.zeros(1, dtype=np.int64), window_of(time_s[:1], window_s))]
    for low in range(0, len(time_s), SLICE):
        index = window_of(time_s[low : low + SLICE + 1], window_s)
        at = np.flatnonzero(index[1:] != index[:-1]) + 1
        found.append((at + low, index[at]))
    begin, number = (np.concatenate(each) for each in zip(*found, strict=True))
    return begin, number


def whole_windows(span_s: float, window_s: float) -> int:
    """How many whole windows fit into `span_s`."""
    return int(span_s / window_s + EDGE)
