"""How much more long sums of a series vary than independent blocks would make them, direction by direction.

Requests resemble each other weakly and over long: of forty interleaved sessions hardly any two neighbours are of one,
and still a session's lengths are felt for hundreds of requests. What neighbouring blocks have in common understates
that. So the spectrum of each of the leading directions is fitted as noise and an AR(1) on top of it (Whittle's
likelihood); the stretch is its level at the lowest frequency. What is fitted is what remains about the clear changes
and the best cut, else a drift would count as resemblance.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEADING = 4  # directions with a spectrum of their own; the others, which hardly resemble, share one
POOLED = 2.5  # the others' independent directions
PERSISTENCE = (0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9)  # of neighbouring blocks: what wanders more slowly is drift
SHARES = np.concatenate([[0.0], np.geomspace(0.02, 20, 25)])  # of the AR(1) over the noise, in variance
LEAST_GAIN = 1.0  # of log likelihood: less is noise
CAUTION = 2.5  # what is fitted to so few blocks, without the best cut, is too low: times its excess over 1
LEAST_PART, MOST_CUTS = 4, 12


def stretches(blocks: Floats, clear: float) -> Floats:
    """A factor of at least 1 for each direction of scaled blocks, float64[blocks, directions], the leading ones last.

    A cut worth more than `clear` (as `cut_scan` has it) is a change, whatever the blocks' resemblance.
    """
    own = (blocks**2).sum(axis=0) / (len(blocks) - 1)
    power = (_cosines(len(blocks)) @ about_changes(blocks, clear)) ** 2
    found = np.ones(blocks.shape[1])
    rest = max(0, blocks.shape[1] - LEADING)
    for place, freedom in ((slice(0, rest), POOLED), *((slice(i, i + 1), 1.0) for i in range(rest, len(found)))):
        total = own[place].sum()
        if total > 0:
            level = _lowest(power[:, place].sum(axis=1), freedom)
            found[place] = 1 + CAUTION * max(0.0, level / total - 1)
    return found


def about_changes(blocks: Floats, clear: float) -> Floats:
    """The blocks about their means between the best cut, those that are clear, and the ends."""
    bounds, waiting = {0, len(blocks)}, [(0, len(blocks))]
    while waiting and len(bounds) < MOST_CUTS + 2:
        begin, end = waiting.pop(0)
        if end - begin < 2 * LEAST_PART:
            continue
        place, worth = _best_cut(blocks[begin:end])
        if len(bounds) == 2 or worth > clear:
            bounds.add(begin + place)
            waiting += [(begin, begin + place), (begin + place, end)]
    starts = np.array(sorted(bounds))
    sizes = np.diff(starts)
    means = np.add.reduceat(blocks, starts[:-1], axis=0) / sizes[:, None]
    residual: Floats = blocks - np.repeat(means, sizes, axis=0)
    return residual


def _best_cut(blocks: Floats) -> tuple[int, float]:
    before = np.arange(1, len(blocks))
    sums = (blocks - blocks.mean(axis=0)).cumsum(axis=0)[:-1]
    worth = (sums**2).sum(axis=1) * len(blocks) / (before * (len(blocks) - before))
    return int(worth.argmax()) + 1, float(worth.max())


def _lowest(power: Floats, freedom: float) -> float:
    """The level at the lowest frequency of the likeliest spectrum; that of noise where an AR(1) gains little."""
    usable = power[1:]  # the lowest is nearly gone with the best cut
    shapes = _shapes(len(power) + 1)
    scale = (usable / shapes[:, 1:]).mean(axis=1)
    if not scale[0] > 0:
        return 0.0
    likelihood = -freedom / 2 * (np.log(shapes[:, 1:]).sum(axis=1) + len(usable) * np.log(scale))
    best = int(likelihood.argmax())
    best = best if likelihood[best] - likelihood[0] >= LEAST_GAIN else 0
    return float(scale[best] * shapes[best, 0])


@lru_cache(maxsize=8)
def _shapes(blocks: int) -> Floats:
    """Spectra of noise of variance 1 and an AR(1), each a row, at `_cosines`' frequencies; the first is noise alone."""
    frequency = np.pi * np.arange(1, blocks) / blocks
    kept = np.array(PERSISTENCE)[:, None]
    wander = (1 - kept**2) / (1 - 2 * kept * np.cos(frequency) + kept**2)
    return np.asarray(1 + SHARES[:, None, None] * wander).reshape(-1, blocks - 1)


@lru_cache(maxsize=8)
def _cosines(blocks: int) -> Floats:
    """Cosine waves of one half period and more over all blocks, a row each, of length 1."""
    waves = np.cos(np.pi * np.outer(np.arange(1, blocks), np.arange(blocks) + 0.5) / blocks)
    return np.asarray(waves * np.sqrt(2 / blocks))
