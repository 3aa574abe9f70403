"""Where exactly a change lies: the most likely request between its neighbours, and the interval around it."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.drift_bins import Binned

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEAST_KS = 0.02  # a smaller change between neighbours is not named,
BY_CHANCE = 1.63  # nor one that two samples as short exceed in a hundredth of cases (Kolmogorov)
RESAMPLES = 200


def placed(binned: Binned, chunks: list[int]) -> list[int]:
    """Each cut at the request that parts its neighbours best; cuts that part nearly equal segments are dropped.

    The block in which a change lies is like neither neighbour, and is cut off on both sides: what the second cut parts,
    once the first has moved to the change itself, is a few requests that differ by chance.
    """
    cuts = [int(binned.edges[chunk]) for chunk in chunks]
    while True:
        for _ in range(2):
            bounds = [0, *cuts, binned.requests]
            for i, cut in enumerate(cuts):
                bounds[i + 1] = best_place(binned, bounds[i], cut, bounds[i + 2])
            cuts = sorted(set(bounds[1:-1]))
        bounds = [0, *cuts, binned.requests]
        parts = [binned.histogram(a, b) for a, b in pairwise(bounds)]
        told = [distance(binned, a, b) / least_distance(int(a.sum()), int(b.sum())) for a, b in pairwise(parts)]
        if not told or min(told) >= 1:
            return cuts
        cuts.pop(int(np.argmin(told)))


def least_distance(before: int, after: int) -> float:
    """Between segments of so many requests, the smallest that is named."""
    return max(LEAST_KS, BY_CHANCE * float(np.sqrt(1 / before + 1 / after)))


def best_place(binned: Binned, begin: int, cut: int, end: int) -> int:
    """The most likely request in (begin, end) for the change, given the histograms on both sides of `cut`."""
    gain = log_ratio(binned, begin, cut, end)
    edges = binned.edges
    low, high = np.searchsorted(edges, begin, side="left"), np.searchsorted(edges, end, side="right") - 1
    if high - low < 4:
        return cut
    climb = np.cumsum(binned.counts[low:high] @ gain)
    chunk = low + 1 + int(np.argmin(climb[1:-1])) + 1
    first, last = int(edges[max(chunk - 2, low + 1)]), int(edges[min(chunk + 2, high - 1)])
    fine = np.concatenate([[0.0], np.cumsum(gain[binned.codes[first:last]])])
    return first + int(np.argmin(fine))


def log_ratio(binned: Binned, begin: int, cut: int, end: int) -> Floats:
    """For each bin, the log of how much likelier it is after `cut` than before."""
    before, after = binned.histogram(begin, cut) + 0.5, binned.histogram(cut, end) + 0.5
    ratio: Floats = np.log(after / after.sum()) - np.log(before / before.sum())
    return ratio


def interval(binned: Binned, begin: int, cut: int, end: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where the change lies with 95 %: both sides resampled in blocks of chunks, the cut found again each time."""
    gain, edges = log_ratio(binned, begin, cut, end), binned.edges
    low, middle, high = (int(np.searchsorted(edges, at)) for at in (begin, cut, end))
    if middle - low < 2 or high - middle < 2:
        return begin, end
    climb = binned.counts[low:high] @ gain
    drawn = np.concatenate([_resampled(climb[: middle - low], rng), _resampled(climb[middle - low :], rng)], axis=1)
    moved = np.cumsum(drawn, axis=1).argmin(axis=1) + 1
    first, last = np.quantile(moved, [0.025, 0.975], method="nearest") + low
    return min(int(edges[first - 1]), cut), max(int(edges[min(last + 1, len(edges) - 1)]), cut)


def _resampled(values: Floats, rng: np.random.Generator) -> Floats:
    """RESAMPLES series of the same length made of blocks of `values`, about 32 in each."""
    length = max(1, len(values) // 32)
    starts = rng.integers(0, len(values) - length + 1, (RESAMPLES, -(-len(values) // length)))
    places = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, : len(values)]
    drawn: Floats = values[places]
    return drawn


def distance(binned: Binned, before: Ints, after: Ints) -> float:
    """Kolmogorov–Smirnov's where bins have an order, else the total variation."""
    gap = before / before.sum() - after / after.sum()
    return float(np.abs(np.cumsum(gap)).max() if binned.ordered else np.abs(gap).sum() / 2)
