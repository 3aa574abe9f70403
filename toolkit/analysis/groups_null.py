"""Which pairs are active together more often than their own bursts and the shared load bring about.

The null: within each block of a scale (an hour or two at most) every name's activity is turned around a circle by an
amount of its own. That keeps each name's bursts whole, and the load, which is steady within a block; it breaks only
what is between names. A pair's score grows with the coincidences beyond those expected; a draw's largest score over all
pairs, all window lengths and all parts of the trace is the max statistic, so that the probability that anything at all
is found in a trace without groups (family-wise error) is what is stated.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_activity import Scale

Pairs = NDArray[np.float32]  # …, pairs of names as np.triu_indices lists them
PARTS = 8  # of the trace, for association over time
LEAST_EXPECTED = 0.01  # coincident bursts: a pair of rare names cannot score on one alone


@dataclass(frozen=True)
class Draws:
    """Coincident windows by part: as observed, as expected, and in each draw of the null."""

    scale: Scale
    observed: Pairs  # parts × pairs
    expected: Pairs  # parts × pairs
    drawn: NDArray[np.uint16]  # draws × parts × pairs
    run: Pairs  # a pair: the variance over the mean of what is drawn, the windows that make one coincident burst

    def score(self, parts: NDArray[np.int64]) -> Pairs:
        return score(self.observed[parts].sum(axis=0), self.expected[parts].sum(axis=0), self.run)

    def drawn_score(self, parts: NDArray[np.int64]) -> Pairs:
        return score(self.drawn[:, parts].sum(axis=1, dtype=np.float32), self.expected[parts].sum(axis=0), self.run)


def draws(scale: Scale, count: int, rng: np.random.Generator) -> Draws:
    names, windows = scale.active.shape
    blocks = scale.active.reshape(names, scale.blocks, scale.in_block)
    edges = np.linspace(0, scale.blocks, PARTS + 1).round().astype(int) * scale.in_block
    upper = np.triu_indices(names, 1)
    drawn = np.empty((count, PARTS, len(upper[0])), dtype=np.uint16)
    doubled = np.concatenate([blocks, blocks], axis=2).astype(np.float32)
    for i in range(count):
        drawn[i] = together(turned(doubled, scale.in_block, rng), edges, upper)
    expected = _expected(blocks, edges // scale.in_block, upper)
    observed = together(scale.active.astype(np.float32), edges, upper)
    return Draws(scale, observed, expected, drawn, _run(blocks, expected, upper))


def turned(doubled: Pairs, in_block: int, rng: np.random.Generator) -> Pairs:
    """Every block of every name turned by an amount of its own; `doubled` holds each block twice."""
    names, blocks, twice = doubled.shape
    shift = rng.integers(0, in_block, (names, blocks, 1), dtype=np.int32)
    start = np.arange(names * blocks, dtype=np.int32).reshape(names, blocks, 1) * np.int32(twice)
    at = start + shift + np.arange(in_block, dtype=np.int32)
    return doubled.ravel().take(at).reshape(names, blocks * in_block)


def together(active: Pairs, edges: NDArray[np.int64], upper: tuple[NDArray[np.int64], ...]) -> Pairs:
    """Windows in which both of a pair are active, by part."""
    parts = (active[:, a:b] for a, b in zip(edges[:-1], edges[1:], strict=True))
    return np.stack([(part @ part.T)[upper] for part in parts])


def _expected(blocks: NDArray[np.bool_], edges: NDArray[np.int64], upper: tuple[NDArray[np.int64], ...]) -> Pairs:
    """The mean over all turns: in each block the product of the two counts over its windows."""
    busy = blocks.sum(axis=2, dtype=np.float32)
    return together(busy, edges, upper) / np.float32(blocks.shape[2])


def _run(blocks: NDArray[np.bool_], expected: Pairs, upper: tuple[NDArray[np.int64], ...]) -> Pairs:
    """Variance over mean of a pair's coincidences over all turns, drawn to that of all pairs where there are few.

    The variance over turns of a circular correlation is the product of the two power spectra, by Parseval.
    """
    names, count, in_block = blocks.shape
    power = np.abs(np.fft.rfft(blocks.astype(np.float32), axis=2)[:, :, 1:]) ** 2
    power[:, :, : (in_block - 1) // 2] *= np.sqrt(2)  # both signs of a frequency, but for the highest of an even number
    flat = power.reshape(names, -1).astype(np.float32)
    variance, mean = (flat @ flat.T)[upper] / np.float32(in_block) ** 2, expected.sum(axis=0)
    usual = max(float(variance.sum() / max(mean.sum(), 1e-9)), 1.0)
    run: Pairs = np.maximum((variance + usual) / (mean + 1), 0.5).astype(np.float32)
    return run


def score(observed: Pairs, expected: Pairs, run: Pairs) -> Pairs:
    """Chernoff's bound on −log P(coincident bursts ≥ observed), of a Poisson count; 0 where not above the expected."""
    bursts, mean = observed / run, np.maximum(expected / run, np.float32(LEAST_EXPECTED))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bursts * np.log(bursts / mean) - (bursts - mean)
    result: Pairs = np.where(bursts > mean, found, 0)
    return result
