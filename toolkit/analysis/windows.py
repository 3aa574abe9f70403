"""Windows of time: how long, and what falls into each."""

import numpy as np
from numpy.typing import NDArray

LENGTHS_S = (
    *(0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800),
)
EDGE = 1e-9  # of a window: stamps are sums of rounded decimals, one this close below an edge is on it


def fitting_window_s(span_s: float, clock_step_s: float | None, at_most: int = 240) -> float:
    """The shortest usual length, no shorter than the clock step, that cuts `span_s` into `at_most` windows."""
    shortest = max(span_s / at_most, clock_step_s or 0)
    return next((length for length in LENGTHS_S if length >= shortest), LENGTHS_S[-1])


def window_of(time_s: NDArray[np.float64], window_s: float) -> NDArray[np.int64]:
    """The half-open window `[i·w, (i + 1)·w)` that each time from 0 on falls into."""
    index: NDArray[np.int64] = (time_s / window_s + EDGE).astype(np.int64)
    return index


def counts_in(arrival_s: NDArray[np.float64], window_s: float, windows: int) -> NDArray[np.int64]:
    """Arrivals in each window; those after the last one are left out."""
    index = window_of(arrival_s, window_s)
    return np.bincount(index[: np.searchsorted(index, windows)], minlength=windows)


def whole_windows(span_s: float, window_s: float) -> int:
    """How many whole windows fit into `span_s`."""
    return int(span_s / window_s + EDGE)
