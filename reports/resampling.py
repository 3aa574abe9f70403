"""Intervals of quantiles, means and shares by a block bootstrap over time.

Requests that follow each other wait in the same queue, so they are not independent: whole blocks of consecutive
requests are drawn, not single ones. Runs that replayed the same trace are drawn with the same blocks (paired).
A replicate costs one row of a matrix product, because each block is kept as counts on a grid of its run's own
quantiles; up to GRID requests the grid holds every value, so the replicates are exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 2_000
REPLICATES = 1_000
LEVEL = 0.95
FEWEST = 5  # blocks; drawing from fewer gives next to nothing but the sample itself, so there are no intervals then
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """The values of each block, counted. `below[b, g]` is how many values of block b are at most `grid[g]`."""

    grid: Floats
    below: Floats
    sums: Floats
    ordered: Floats

    @property
    def n(self) -> int:
        return len(self.ordered)

    def quantiles(self, levels: Floats) -> Floats:
        """Sample quantiles with linear interpolation (Hyndman and Fan's type 7); NaN of nothing."""
        return sorted_quantiles(self.ordered, np.asarray(levels))

    @property
    def mean(self) -> float:
        return float(self.ordered.mean()) if self.n else float("nan")


def sorted_quantiles(ordered: Floats, levels: Floats) -> Floats:
    """Sample quantiles of ascending values; NaN of nothing."""
    if not len(ordered):
        return np.full(len(levels), np.nan)
    exact = levels * (len(ordered) - 1)
    below, above = (f(exact).astype(np.int64) for f in (np.floor, np.ceil))
    return np.asarray(ordered[below] + (ordered[above] - ordered[below]) * (exact - below), dtype=np.float64)


def tally(values: Floats, block_of: NDArray[np.int64]) -> Tally:
    """Count `values` (NaN where undefined) a block; `block_of` ascends."""
    blocks = int(block_of[-1]) + 1 if len(block_of) else 1
    known = ~np.isnan(values)
    values, block_of = values[known], block_of[known]
    parts = [np.sort(part) for part in np.split(values, np.searchsorted(block_of, np.arange(1, blocks)))]
    ordered = np.sort(values)
    grid = _grid(ordered)
    below = np.array([part.searchsorted(grid, side="right") for part in parts], dtype=np.float64)
    return Tally(grid, below, np.array([part.sum() for part in parts]), ordered)


def _grid(ordered: Floats) -> Floats:
    """At most GRID of the values: evenly through the body, every one of the largest."""
    n = len(ordered)
    if n <= GRID:
        return np.unique(ordered)
    top = GRID // 4
    body = np.linspace(0, n - top - 1, GRID // 2)
    tail = n - 1 - np.geomspace(top, n / 10, GRID // 4)  # denser from P90 on
    kept = np.unique(np.concatenate([body, tail, np.arange(n - top, n)]).astype(np.int64).clip(0, n - 1))
    return np.unique(ordered[kept])


def draws(blocks: int, *, seed: int, replicates: int = REPLICATES) -> Floats:
    """How often each block is drawn in each replicate: (replicates, blocks); NaN where there are too few blocks."""
    if blocks < FEWEST:
        return np.full((replicates, blocks), np.nan)
    rng = np.random.default_rng(seed)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=replicates).astype(np.float64)


def quantile_replicates(counted: Tally, drawn: Floats, levels: Floats) -> Floats:
    """The quantile at each level in each replicate, (replicates, levels); NaN where a replicate drew no value."""
    found = np.full((len(drawn), len(levels)), np.nan)
    if not counted.n:
        return found
    last = len(counted.grid) - 1
    for row, out in zip(drawn @ counted.below, found, strict=True):
        if row[-1] > 0:
            out[:] = counted.grid[np.minimum(row.searchsorted(np.maximum(levels * row[-1], 0.5)), last)]
    return found


def mean_replicates(counted: Tally, drawn: Floats) -> Floats:
    n = drawn @ counted.below[:, -1] if len(counted.grid) else np.zeros(len(drawn))
    return ratio(drawn @ counted.sums, n)


def share_replicates(hits: Floats, offered: Floats, drawn: Floats) -> Floats:
    """Replicates of sum(hits) / sum(offered), both given a block."""
    return ratio(drawn @ hits, drawn @ offered)


def ratio(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where `below` is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def interval(replicates: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The percentile interval along the first axis; NaN where a tenth or more of the replicates are undefined."""
    ordered = np.sort(np.ascontiguousarray(replicates.T), axis=-1)  # NaN last
    known = np.count_nonzero(~np.isnan(ordered), axis=-1)
    edges = [np.rint(share * np.maximum(known - 1, 0)).astype(np.int64) for share in ((1 - level) / 2, (1 + level) / 2)]
    low, high = (np.take_along_axis(ordered, edge[..., None], axis=-1)[..., 0] for edge in edges)
    enough = known > 0.9 * len(replicates)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)
