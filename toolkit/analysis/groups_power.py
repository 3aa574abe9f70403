"""What the trace could have shown: how many of their bursts two names must share to be found."""

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Bursts:
    """At one scale: each pair's expected coincidences, the windows that make one coincident burst, and how many windows
    of each name are bursts rather than noise.
    """

    expected: Doubles
    run: Doubles
    busy: Doubles

    @classmethod
    def of(cls, draws: Draws) -> "Bursts":
        busy = np.maximum(draws.scale.active.sum(axis=1) - draws.scale.noise, 0)
        return cls(draws.expected.sum(axis=0).astype(np.float64), draws.run.astype(np.float64), busy)

    def found(self, shares: Doubles, threshold: float) -> Doubles:
        """The probability that each pair is found, a row for each share of the rarer name's bursts that is shared."""
        from scipy.special import gammainc

        upper = upper_pairs(len(self.busy))
        rarer = np.minimum(self.busy[upper[0]], self.busy[upper[1]])
        needed, most = np.ceil(_needed(self.expected, self.run, threshold)), np.maximum(rarer - self.expected, 0)
        return np.stack([gammainc(needed, (self.expected + share * most) / self.run) for share in shares])


def power(scales: Sequence[Bursts], threshold: float) -> Power:
    """Against the pair test's threshold, each pair at the scale that shows most, with coincident bursts as Poisson."""
    shares = np.linspace(0.05, 1, 20)
    by_share = np.max([scale.found(shares, threshold) for scale in scales], axis=0)
    each = by_share[np.argmin(np.abs(shares - SHARED))]
    enough = np.flatnonzero(np.median(by_share, axis=1) >= FOUND)
    detectable = float(shares[enough[0]]) if len(enough) else None
    return Power(float(each.mean()), _of_four(each, len(scales[0].busy)), detectable)


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
