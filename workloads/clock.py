"""What a source's clock can tell: its smallest step, and its unit where nothing says it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

STAMPS_JUDGED = 2**20  # the first so many kept rows; bounds the cost on long traces
FEWEST_GAPS = 3  # fewer say nothing about a clock
FEWEST_COARSE_GAPS = 20
MOST_DECIMALS = 9
PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "datetime": 1e9}  # a Datetime is read in nanoseconds
LEAST_RATE_PER_S = 0.01

Stamps = NDArray[Any]  # whole numbers or doubles


def clock_step(stamps: Stamps) -> float | None:
    """The smallest step that the clock behind `stamps` can tell apart, in their unit; null when none shows.

    It is the greatest common divisor of the gaps between distinct stamps (in the finest decimal that writes them all),
    unless the stamps come in bunches whose gaps are whole multiples, within 2 %, of something coarser: a clock that is
    read every 3 s, give or take milliseconds, tells 3 s apart, whatever it prints.
    """
    distinct = np.unique(stamps)
    gaps = np.diff(distinct)
    if gaps.size < FEWEST_GAPS:
        return None
    coarse = _coarse_step(gaps) if stamps.size >= 2 * distinct.size else None
    tick = _tick(distinct)
    if coarse is not None and (tick is None or coarse >= 2 * tick):
        return coarse
    return tick


def _coarse_step(gaps: Stamps) -> float | None:
    """The step of which nearly all short gaps are multiples, where at least half of the gaps are short."""
    if gaps.size < FEWEST_COARSE_GAPS:
        return None
    step = float(np.median(gaps[gaps <= 1.5 * gaps.min()]))
    multiple = np.rint(gaps / step)
    short = multiple <= 10
    near = np.abs(gaps - multiple * step) <= 0.02 * step
    return step if short.mean() >= 0.5 and near[short].mean() >= 0.99 else None


def _tick(distinct: Stamps) -> float | None:
    if distinct.dtype.kind == "i":
        return float(np.gcd.reduce(np.diff(distinct)))
    since = distinct - distinct[0]
    largest = max(abs(float(distinct[0])), abs(float(distinct[-1])))
    for decimals in range(MOST_DECIMALS + 1):
        scale = 10.0**decimals
        rounding = 4 * np.finfo(np.float64).eps * largest * scale
        if rounding > 0.1:  # the doubles themselves are coarser than this decimal
            return None
        ticks = np.rint(since * scale)
        if np.abs(since * scale - ticks).max() <= max(rounding, 1e-9):
            return float(np.gcd.reduce(ticks.astype(np.int64))) / scale
    return None


def infer_unit(first: float, last: float, rows: int, whole: bool) -> tuple[str, str]:
    """The likely unit of numeric stamps, and why: their magnitude since 1970, fractions, or a plausible rate."""
    for unit in ("s", "ms", "us", "ns"):
        if is_epoch(first, unit):
            return unit, f"guessed: as {unit} since 1970 the first stamp falls between 1990 and 2100"
    if not whole:
        return "s", "guessed: the stamps have fractions"
    for unit in ("s", "ms", "us", "ns"):
        rate = rows * PER_SECOND[unit] / (last - first) if last > first else np.inf
        if rate >= LEAST_RATE_PER_S:
            return unit, f"guessed: the coarsest unit with at least one request in 100 s ({rate:.3g} requests/s)"
    return "ns", "guessed: any coarser unit would leave more than 100 s between requests"


def is_epoch(stamp: float, unit: str) -> bool:
    """Whether `stamp` reads as a moment between 1990 and 2100."""
    return 631_152_000 <= stamp / PER_SECOND[unit] < 4_102_444_800
