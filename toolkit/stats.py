"""Quantiles, means and shares with intervals, and differences of quantiles between runs.

A quantile is numpy's `linear` one (position (n − 1)·q between order statistics), here and everywhere in the toolkit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.counted import Counted

Floats = NDArray[np.float64]
GRID = 1024  # candidate values a resampled quantile is looked up among; refined once around the quantile


@dataclass(frozen=True)
class Difference:
    """`b`'s quantile against `a`'s: the difference b − a and the ratio b / a, each with its interval."""

    a: float
    b: float
    difference: float
    difference_low: float
    difference_high: float
    ratio: float
    ratio_low: float
    ratio_high: float

    @property
    def shown(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return bool(self.difference_low > 0 or self.difference_high < 0)


def mean_interval(mean: ArrayLike, deviation: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Student's interval of a mean of `n` independent values with this standard deviation (n − 1); NaN below two."""
    from scipy.special import stdtrit

    counts = np.asarray(n, dtype=np.float64)
    known = counts > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        width = stdtrit(np.where(known, counts - 1, 1), (1 + level) / 2) * np.asarray(deviation) / np.sqrt(counts)
    half = np.where(known, width, np.nan)
    return np.asarray(mean) - half, np.asarray(mean) + half


def share_interval(share: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share of `n` independent trials; NaN without trials."""
    from scipy.special import ndtri

    p, counts, z = np.asarray(share, dtype=np.float64), np.asarray(n, dtype=np.float64), ndtri((1 + level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / (1 + z**2 / counts)
        middle = scale * (p + z**2 / (2 * counts))
        half = scale * z * np.sqrt(p * (1 - p) / counts + z**2 / (4 * counts**2))
    return np.where(p <= 0, np.where(counts > 0, 0.0, np.nan), middle - half), np.where(p >= 1, p, middle + half)


def quantile_interval(sorted_values: ArrayLike, q: float, level: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of the `q` quantile from the order statistics' binomial ranks.

    `sorted_values` ascends and has no NaN. Values are taken to be independent: requests that queue behind each other
    are not, so for latencies of one run prefer `bootstrap_quantile_interval`. An end that the sample is too small to
    bound is NaN.
    """
    from scipy.special import bdtr, bdtrik

    values = np.asarray(sorted_values, dtype=np.float64)
    n, miss = len(values), (1 - level) / 2
    if n == 0 or not 0 < q < 1:
        return (np.nan, np.nan)
    # Rank l has P(Binomial(n, q) ≤ l − 1) ≤ miss, rank u has P(… ≤ u − 1) ≥ 1 − miss.
    low_rank = _largest(lambda k: bdtr(k - 1, n, q) <= miss, int(_finite(bdtrik(miss, n, q), n * q)))
    high_rank = 1 + _largest(lambda k: bdtr(k - 1, n, q) < 1 - miss, int(_finite(bdtrik(1 - miss, n, q), n * q)))
    low = values[low_rank - 1] if low_rank >= 1 else np.nan
    high = values[high_rank - 1] if high_rank <= n else np.nan
    return (float(low), float(high))


def bootstrap_quantile_interval(
    values: ArrayLike,
    q: float,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    blocks: int = 100,
) -> tuple[float, float]:
    """Interval of the `q` quantile of `values` (arrival order, NaN = no value) by resampling blocks of time."""
    sample = np.asarray(values, dtype=np.float64)
    return bootstrap_counted_interval(Blocked.of(sample, blocks), len(sample), q, rng, level=level, resamples=resamples)


def bootstrap_counted_interval(
    sample: "Blocked", n: int, q: float, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 1000
) -> tuple[float, float]:
    """The same of what was counted by block, `n` with those that have no value."""
    draws = _resampled(sample, q, _block_weights(n, sample.blocks, resamples, rng))
    low, high = _percentile_interval(draws, level)
    return (low, high)


@dataclass(frozen=True)
class Blocked:
    """Values, the block of time in which each occurs, and how often it does there."""

    values: Floats
    block: NDArray[np.int64]
    counts: NDArray[np.int64]
    blocks: int

    @classmethod
    def of(cls, sample: Floats, blocks: int) -> "Blocked":
        """Of values in arrival order, NaN where there is none."""
        present = ~np.isnan(sample)
        count = max(1, min(blocks, len(sample)))
        block = (np.arange(len(sample)) * count // max(len(sample), 1))[present]
        return cls(sample[present], block, np.ones(len(block), dtype=np.int64), count)


def bootstrap_quantile_difference(
    a: ArrayLike,
    b: ArrayLike,
    q: float,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    blocks: int = 100,
    paired: bool = False,
) -> Difference:
    """How far `b`'s `q` quantile lies from `a`'s, with percentile intervals from a block bootstrap.

    Values are in arrival order (NaN where a request has none). Neighbours queue together, so whole blocks of
    consecutive requests are drawn: `blocks` a sample, fewer when it is shorter. With `paired`, row i of both is the
    same request (one trace under two schedulers) and both samples draw the same blocks, which cancels what they share.
    Takes half a second for two samples of a million.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if paired and len(first) != len(second):
        raise ValueError(f"paired samples differ in length: {len(first)} and {len(second)}")
    weights_a = _block_weights(len(first), blocks, resamples, rng)
    weights_b = weights_a if paired else _block_weights(len(second), blocks, resamples, rng)
    draws_a = _resampled(Blocked.of(first, blocks), q, weights_a)
    draws_b = _resampled(Blocked.of(second, blocks), q, weights_b)
    at_a, at_b = _quantile(first, q), _quantile(second, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios, ratio = draws_b / draws_a, float(np.float64(at_b) / at_a)
    difference = _percentile_interval(draws_b - draws_a, level)
    return Difference(at_a, at_b, at_b - at_a, *difference, ratio, *_percentile_interval(ratios, level))


def _largest(holds: Callable[[int], bool], guess: int) -> int:
    """The largest k ≥ 0 for which `holds(k)`, which is true up to it, searched from near it."""
    k = max(guess, 0)
    while k > 0 and not holds(k):
        k -= 1
    while holds(k + 1):
        k += 1
    return k


def _finite(value: float, otherwise: float) -> float:
    return value if np.isfinite(value) else otherwise


def _quantile(values: Floats, q: float) -> float:
    present = values[~np.isnan(values)]
    return float(np.quantile(present, q)) if len(present) else float("nan")


def _block_weights(n: int, blocks: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each block is drawn, float[resamples, blocks]."""
    count = max(1, min(blocks, n))
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def _resampled(sample: Blocked, q: float, weights: Floats) -> Floats:
    """The `q` quantile of each block resample, float[resamples].

    Per-block counts at or below a grid of candidates turn a resample into one row of a matrix product. The second
    pass takes its grid from the range that the first found, where it is exact for independent values.
    """
    if not len(sample.values):
        return np.full(len(weights), np.nan)
    whole = Counted.of(sample.values, sample.counts)
    n = whole.n
    coarse = _lookup(sample, weights, q, _thinned(whole, 0, n))
    ends = np.searchsorted(whole.values, (np.nanmin(coarse), np.nanmax(coarse)))
    low, high = np.append(0, whole.cumulative)[ends]
    step = max(1, n // GRID)
    fine = _thinned(whole, max(0, low - step), min(n, high + step + 1))
    return _lookup(sample, weights, q, fine)


def _thinned(sample: Counted, begin: int, end: int) -> Floats:
    """At most GRID distinct values of the ranks from `begin` to before `end`, evenly spaced, both ends among them."""
    rank = np.linspace(0, end - begin - 1, min(GRID, end - begin)).round().astype(np.int64)
    return np.unique(sample.at(begin + rank))


def _lookup(sample: Blocked, weights: Floats, q: float, grid: Floats) -> Floats:
    blocks, width = weights.shape[1], len(grid) + 1
    cell = sample.block * width + np.searchsorted(grid, sample.values)
    counts = np.bincount(cell, weights=sample.counts, minlength=blocks * width).reshape(blocks, width)
    below = weights @ np.cumsum(counts, axis=1)  # float[resamples, width]: values ≤ grid[j] in the resample
    position = np.maximum(below[:, -1] - 1, 0) * q
    whole = np.floor(position)
    first = grid[np.minimum((below < (whole + 1)[:, None]).sum(axis=1), len(grid) - 1)]
    second = grid[np.minimum((below < (whole + 2)[:, None]).sum(axis=1), len(grid) - 1)]
    drawn: Floats = np.where(below[:, -1] > 0, first + (position - whole) * (second - first), np.nan)
    return drawn


def _percentile_interval(draws: Floats, level: float) -> tuple[float, float]:
    finite = draws[np.isfinite(draws)]
    if len(finite) == 0:
        return (np.nan, np.nan)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))
