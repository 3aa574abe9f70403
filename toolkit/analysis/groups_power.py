"""What the trace could have shown: how many of their bursts two names must share to be found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_communities import pair_index, upper_pairs
from toolkit.analysis.groups_null import Draws, score

Doubles = NDArray[np.float64]
SHARED = 0.5  # of the rarer name's bursts
FOUND = 0.8  # probability at which a pair counts as detectable


@dataclass(frozen=True)
class Power:
    """`pairs`: the mean probability that a pair which shares half of its bursts is found; `group`: that at least two of
    the six pairs of four such names are; `detectable_share`: the shared share found at FOUND by the median pair, null
    where it would have to be above 1.
    """

    pairs: float
    group: float
    detectable_share: float | None


def power(draws: Draws, threshold: float) -> Power:
    """Against the pair test's threshold, at the scale of `draws`, with coincident bursts as Poisson counts."""
    from scipy.special import gammainc

    expected = draws.expected.sum(axis=0).astype(np.float64)
    names = len(draws.scale.active)
    busy = draws.scale.active.sum(axis=1).astype(np.float64)
    upper = upper_pairs(names)
    rarer = np.minimum(busy[upper[0]], busy[upper[1]])
    run = draws.run.astype(np.float64)
    needed = _needed(expected, run, threshold)
    base, all_of_them = expected / run, np.maximum(rarer - expected, 0) / run

    def found(share: float) -> NDArray[np.float64]:
        result: NDArray[np.float64] = gammainc(np.ceil(needed), base + share * all_of_them)
        return result

    each = found(SHARED)
    shares = np.linspace(0.05, 1, 20)
    typical = np.array([np.median(found(share)) for share in shares])
    enough = np.flatnonzero(typical >= FOUND)
    return Power(float(each.mean()), _of_four(each, names), float(shares[enough[0]]) if len(enough) else None)


def _needed(expected: Doubles, run: Doubles, threshold: float) -> Doubles:
    """The coincident bursts at which each pair's score reaches the threshold, by bisection."""
    low: Doubles = expected / run
    high: Doubles = low + 10 * threshold + 10 * np.sqrt(threshold * low)
    for _ in range(30):
        middle = (low + high) / 2
        above = score(*(each.astype(np.float32) for each in (middle * run, expected, run))) > threshold
        low[~above], high[above] = middle[~above], middle[above]
    return high


def _of_four(found: NDArray[np.float64], names: int, samples: int = 500) -> float:
    """The mean over random fours of the probability that two or more of their six pairs are found."""
    if names < 4:
        return float(found.mean())
    rng = np.random.default_rng(0)
    four = np.argsort(rng.random((samples, names)), axis=1)[:, :4]
    a, b = np.triu_indices(4, 1)
    chance = found[pair_index(names)[four[:, a], four[:, b]]]
    missed = 1 - chance
    none = missed.prod(axis=1)
    one = sum(chance[:, i] * np.delete(missed, i, axis=1).prod(axis=1) for i in range(6))
    return float((1 - none - one).mean())
