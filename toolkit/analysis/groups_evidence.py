"""The family-wise tests: pairs, and clusters of weaker pairs, against the largest of each draw of the null.

Two tests share what may go wrong: a pair whose score exceeds the draws' largest (found in any window length and any
stretch of the trace), and a cluster of pairs, each weaker, whose scores add up to more than those of any cluster that
the draws hold (whole trace only). Either errs at ALPHA in traces without groups.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_communities import Group, communities, inner_pairs, upper_pairs
from toolkit.analysis.groups_null import PARTS, Draws, Ints, Pairs
from toolkit.analysis.groups_power import Bursts

Maxima = NDArray[np.float64]  # one a draw
ALPHA = 0.01  # family-wise error of each of the two tests, and of whatever is added to a group
HALF_ALPHA = 0.05
STRAY = 0.05  # pairs a name that the null itself puts among the weaker ones,
STRAY_SHARE = 0.01  # and at most this share of all pairs
RANGES: tuple[Ints, ...] = tuple(
    np.arange(i * PARTS // n, (i + 1) * PARTS // n) for n in (1, 2, 4) for i in range(n)
)  # the whole trace, its halves, its quarters
HALVES: tuple[Ints, Ints] = (np.arange(0, PARTS, 2), np.arange(1, PARTS, 2))  # interleaved: what changes is in both


@dataclass(frozen=True)
class Weighed:
    """One stretch of the trace at one scale: every pair's score, the weaker pairs, their clusters, the draws' most."""

    scores: Pairs
    largest: Maxima
    weak: NDArray[np.bool_]
    clusters: list[tuple[float, Group]]  # the sum of the weak pairs' scores, and the names
    heaviest: Maxima


@dataclass(frozen=True)
class Judged:
    """What the tests find: pairs, the score above which a pair is one, clusters with their p-values."""

    pairs: NDArray[np.bool_]
    limit: float
    heavy: list[tuple[float, Group]]


@dataclass(frozen=True)
class Evidence:
    """`best` is the scale that told most; `edges` are ranges × pairs that either test found."""

    best: Draws
    scores: Pairs  # ranges × pairs, largest over the scales
    largest: Maxima
    edges: NDArray[np.bool_]
    half_edges: NDArray[np.bool_]  # halves × pairs
    threshold: float
    heavy: list[tuple[float, Group]]  # p-value and names of each cluster that is found
    bursts: list[Bursts]  # of every scale

    def p_value(self, pairs: Ints, names: Group) -> float:
        """The smaller of the two tests' family-wise p-values."""
        found = share_as_large(self.largest, float(self.scores[:, pairs].max()))
        return min([found, *(p for p, cluster in self.heavy if len(set(cluster) & set(names)) > 1)])


def weigh(scales: Iterable[Draws], names: int) -> Evidence:
    """Judge all pairs at all scales together; only one scale's draws are held at a time, and the best one's."""
    best, most = None, -1.0
    scores, largest, whole, halves, bursts = [], [], [], [], []
    for draws in scales:
        bursts.append(Bursts.of(draws))
        scores.append(np.stack([draws.score(parts) for parts in RANGES]))
        largest.append(_largest(draws))
        whole.append(weigh_stretch(draws, RANGES[0], names))
        halves.append([weigh_stretch(draws, parts, names) for parts in HALVES])
        told = float(np.sort(scores[-1][0])[-names:].sum())
        if best is None or told > most:
            best, most = draws, told
    assert best is not None
    top, most_of_each = np.max(scores, axis=0), np.max(largest, axis=0)
    clusters = judge(whole, ALPHA, names)
    limit = threshold(most_of_each, ALPHA)
    edges = top > limit
    edges[0] |= clusters.pairs
    half_edges = np.stack([judge(half, HALF_ALPHA, names).pairs for half in zip(*halves, strict=True)])
    return Evidence(best, top, most_of_each, edges, half_edges, limit, clusters.heavy, bursts)


def _largest(draws: Draws) -> Maxima:
    """Each draw's largest score over all ranges."""
    largest: Maxima = np.max([draws.drawn_score(parts).max(axis=1) for parts in RANGES], axis=0).astype(np.float64)
    return largest


def weigh_stretch(draws: Draws, parts: Ints, names: int) -> Weighed:
    scores = draws.score(parts)
    drawn = draws.drawn_score(parts)
    limit = _stray_limit(drawn, min(STRAY * names, STRAY_SHARE * scores.size))
    heaviest = np.array([_heaviest(one, limit, names) for one in drawn])
    found = clusters(scores, limit, names)
    return Weighed(scores, drawn.max(axis=1).astype(np.float64), scores > limit, found, heaviest)


def _heaviest(scores: Pairs, limit: float, names: int) -> float:
    """The mass of the heaviest cluster; where no two pairs share a name, pairs are the clusters."""
    above = np.flatnonzero(scores > limit)
    ends = np.concatenate([side[above] for side in upper_pairs(names)])
    if len(np.unique(ends)) == len(ends):
        return float(scores[above].max(initial=0))
    return max(mass for mass, _ in clusters(scores, limit, names))


def judge(scales: Sequence[Weighed], alpha: float, names: int) -> Judged:
    """Both tests for one stretch over all scales, each at `alpha`."""
    largest, heaviest = (np.max([getattr(w, name) for w in scales], axis=0) for name in ("largest", "heaviest"))
    limit = threshold(largest, alpha)
    pairs = np.max([w.scores for w in scales], axis=0) > limit
    heavy = []
    for weighed in scales:
        for mass, cluster in weighed.clusters:
            if mass > threshold(heaviest, alpha):
                heavy.append((share_as_large(heaviest, mass), cluster))
                inner = inner_pairs(cluster, names)
                pairs[inner] |= weighed.weak[inner]
    return Judged(pairs, limit, heavy)


def _stray_limit(drawn: Pairs, kept: float) -> float:
    """The score that `kept` pairs a draw exceed on average."""
    high = drawn[drawn > 1]
    place = max(1, round(kept * len(drawn)))
    return float(np.partition(high, -place)[-place]) if len(high) >= place else 1.0


def clusters(scores: Pairs, limit: float, names: int) -> list[tuple[float, Group]]:
    """Clusters of the pairs above `limit`, each with the sum of their scores."""
    above = scores > limit
    found = []
    for group in communities(np.flatnonzero(above), names):
        inner = inner_pairs(group, names)
        found.append((float(scores[inner][above[inner]].sum()), group))
    return found


def share_as_large(drawn: Maxima, value: float) -> float:
    """The p-value of `value`, itself counted among the draws."""
    return float((1 + (drawn >= value).sum()) / (1 + len(drawn)))


def threshold(largest: Maxima, alpha: float) -> float:
    """What a value must be above for (1 + draws as large) / (1 + draws) ≤ `alpha`."""
    allowed = int(alpha * (len(largest) + 1)) - 1
    return float(np.sort(largest)[::-1][allowed]) if allowed >= 0 else float("inf")
