"""Which pairs are active together more often than their own bursts and the shared load bring about.

The null: within each block of a scale (two hours at most, or 12 windows) every name's activity is turned around a
circle by an amount of its own. That keeps each name's bursts whole, and the load, which is steady within a block; it
breaks only what is between names. A pair's score grows with the coincidences beyond those expected; a draw's largest
score over all pairs, window lengths and stretches of the trace is the max statistic, so that the probability that
anything at all is found in a trace without groups (family-wise error) is what is stated.

A block has at most 64 windows and is one machine word: a turn is a rotation, coincidences are counted bits.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.coincidences import together
from toolkit.analysis.groups_activity import MOST_IN_BLOCK, Scale
from toolkit.analysis.groups_communities import upper_pairs

Pairs = NDArray[np.float32]  # …, pairs of names as `upper_pairs` lists them
Words = NDArray[np.uint64]  # names × blocks, the first window in the lowest bit
Blocks = NDArray[np.bool_]  # names × blocks × windows
Ints = NDArray[np.int64]
PARTS = 8  # of the trace, for association over time
LEAST_EXPECTED = 0.01  # coincident bursts: a pair of rare names cannot score on one alone
NOTABLE = 1.5  # coincident bursts above the mean from which a score is worth computing; below it is nearly 0


@dataclass(frozen=True)
class Draws:
    """Coincident windows by part: as observed, as expected, and in each draw of the null."""

    scale: Scale
    observed: Pairs  # parts × pairs
    expected: Pairs  # parts × pairs
    drawn: NDArray[np.uint16]  # draws × parts × pairs
    run: Pairs  # a pair: the variance over the mean of what is drawn, the windows that make one coincident burst

    def score(self, parts: Ints) -> Pairs:
        return score(self.observed[parts].sum(axis=0), self.expected[parts].sum(axis=0), self.run)

    def drawn_score(self, parts: Ints) -> Pairs:
        """Draws × pairs."""
        together = self.drawn[:, parts].sum(axis=1, dtype=np.float32)
        return score(together, self.expected[parts].sum(axis=0), self.run)


def draws(scale: Scale, count: int, seed: int) -> Draws:
    """`count` draws of the null from `seed`."""
    rng = np.random.default_rng(seed)
    blocks, edges = in_blocks(scale, scale.active), part_edges(scale)
    upper = upper_pairs(len(blocks))
    words = packed(blocks)
    drawn = np.empty((count, PARTS, len(upper[0])), dtype=np.uint16)
    for i in range(count):
        together(turned(words, scale.in_block, rng), edges, drawn[i])
    observed = together(words, edges, np.empty_like(drawn[0])).astype(np.float32)
    mean = expected(blocks, blocks, edges)
    spread = run(blocks, blocks, mean.sum(axis=0))
    return Draws(scale, observed, mean[:, *upper], drawn, spread[upper])


def in_blocks(scale: Scale, active: NDArray[np.bool_]) -> Blocks:
    return active.reshape(len(active), scale.blocks, scale.in_block)


def part_edges(scale: Scale) -> Ints:
    """The blocks at which the parts begin, and the end."""
    return np.linspace(0, scale.blocks, PARTS + 1).round().astype(np.int64)


def parts_of(scale: Scale, windows: Ints) -> Ints:
    """The part that each window lies in."""
    part: Ints = np.searchsorted(part_edges(scale) * scale.in_block, windows, side="right") - 1
    return part


def packed(blocks: Blocks) -> Words:
    """Each block of windows as one word."""
    padded = np.zeros((*blocks.shape[:2], MOST_IN_BLOCK), dtype=bool)
    padded[:, :, : blocks.shape[2]] = blocks
    words: Words = np.packbits(padded, axis=2, bitorder="little").view("<u8")[:, :, 0].astype(np.uint64)
    return words


def turned(words: Words, in_block: int, rng: np.random.Generator) -> Words:
    """Every block of every name turned by an amount of its own."""
    shift = rng.integers(0, in_block, words.shape, dtype=np.uint8).astype(np.uint64)
    back = np.uint64(in_block) - shift
    over = np.where(shift > 0, words >> (back % np.uint64(64)), np.uint64(0))
    result: Words = ((words << shift) | over) & np.uint64(2**in_block - 1)
    return result


def expected(a: Blocks, b: Blocks, edges: Ints) -> Pairs:
    """The mean over all turns, parts × a's rows × b's: in each block the product of the two counts over its windows."""
    busy_a, busy_b = (each.sum(axis=2, dtype=np.float32) for each in (a, b))
    parts = [busy_a[:, i:j] @ busy_b[:, i:j].T for i, j in pairwise(edges)]
    result: Pairs = (np.stack(parts) / np.float32(a.shape[2])).astype(np.float32)
    return result


def run(a: Blocks, b: Blocks, mean: Pairs) -> Pairs:
    """Variance over mean of coincidences over all turns, drawn to that of all where there are few.

    The variance over turns of a circular correlation is the product of the two power spectra, by Parseval.
    """
    variance = (power(a) @ power(b).T) / np.float32(a.shape[2]) ** 2
    usual = max(float(variance.sum() / max(mean.sum(), 1e-9)), 1.0)
    result: Pairs = np.maximum((variance + usual) / (mean + 1), 0.5).astype(np.float32)
    return result


def power(blocks: Blocks) -> Pairs:
    """Names × (blocks · frequencies above 0), so that products count both signs of a frequency."""
    power = np.abs(np.fft.rfft(blocks.astype(np.float32), axis=2)[:, :, 1:]) ** 2
    power[:, :, : (blocks.shape[2] - 1) // 2] *= np.sqrt(2)  # the highest of an even number of windows has one sign
    return power.reshape(len(blocks), -1).astype(np.float32)


def score(observed: Pairs, expected: Pairs, run: Pairs) -> Pairs:
    """Chernoff's bound on −log P(coincident bursts ≥ observed) of a Poisson count; 0 where hardly above its mean."""
    bursts, mean = observed / run, np.maximum(expected / run, np.float32(LEAST_EXPECTED))
    notable = bursts > mean + NOTABLE
    found = np.zeros(bursts.shape, dtype=np.float32)
    high, low = bursts[notable], np.broadcast_to(mean, bursts.shape)[notable]
    found[notable] = high * np.log(high / low) - (high - low)
    return found
