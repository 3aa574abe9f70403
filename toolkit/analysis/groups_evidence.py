"""The family-wise tests: pairs, and clusters of weaker pairs, against the largest of each draw of the null.

Two tests share what may go wrong: a pair whose score exceeds the draws' largest (found in any window length and any
stretch of the trace), and a cluster of pairs, each weaker, whose scores add up to more than those of any cluster that
the draws hold (whole trace only). Either errs at ALPHA in traces without groups.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_communities import communities, pair_index, square
from toolkit.analysis.groups_null import PARTS, Draws, Ints, Pairs

Maxima = NDArray[np.float64]  # one a draw
ALPHA = 0.01  # family-wise error of each of the two tests, and of whatever is added to a group
HALF_ALPHA = 0.05
STRAY = 0.05  # pairs a name that the null itself puts among the weaker ones
RANGES: tuple[Ints, ...] = tuple(
    np.arange(i * PARTS // n, (i + 1) * PARTS // n) for n in (1, 2, 4) for i in range(n)
)  # the whole trace, its halves, its quarters
HALVES: tuple[Ints, Ints] = (np.arange(0, PARTS, 2), np.arange(1, PARTS, 2))  # interleaved: what changes is in both


@dataclass(frozen=True)
class Weighed:
    """One scale's scores (ranges × pairs, and halves × pairs), the draws' largest of each, and its clusters."""

    scores: Pairs
    halves: Pairs
    largest: Maxima
    half_largest: NDArray[np.float64]  # halves × draws
    weak: NDArray[np.bool_]  # pairs among the weaker ones
    clusters: list[tuple[float, tuple[int, ...]]]  # the sum of the weak pairs' scores, and the names
    heaviest: Maxima


@dataclass(frozen=True)
class Evidence:
    """`best` is the scale that told most; `edges` are ranges × pairs that either test found."""

    best: Draws
    scores: Pairs  # ranges × pairs, largest over the scales
    edges: NDArray[np.bool_]
    half_edges: NDArray[np.bool_]  # halves × pairs
    threshold: float
    largest: Maxima
    heavy: list[tuple[float, tuple[int, ...]]]  # p-value and names of each cluster that is found
    scales: int

    def p_value(self, pairs: Ints, names: tuple[int, ...]) -> float:
        """The smaller of the two tests' family-wise p-values."""
        found = (1 + (self.largest >= self.scores[:, pairs].max()).sum()) / (1 + len(self.largest))
        return min([float(found), *(p for p, cluster in self.heavy if len(set(cluster) & set(names)) > 1)])


def weigh(scales: Iterable[Draws], names: int) -> Evidence:
    """Judge all pairs at all scales together; only one scale's draws are held at a time, and the best one's."""
    best, most, each = None, -1.0, []
    for draws in scales:
        each.append(weigh_scale(draws, names))
        told = float(np.sort(each[-1].scores[0])[-names:].sum())
        if best is None or told > most:
            best, most = draws, told
    assert best is not None
    scores, halves = (np.max([getattr(w, name) for w in each], axis=0) for name in ("scores", "halves"))
    largest, heaviest = (np.max([getattr(w, name) for w in each], axis=0) for name in ("largest", "heaviest"))
    half_largest = np.max([w.half_largest for w in each], axis=0)
    limit = threshold(largest, ALPHA)
    edges = scores > limit
    heavy = []
    for weighed in each:
        for mass, cluster in weighed.clusters:
            if mass > threshold(heaviest, ALPHA):
                heavy.append((float((1 + (heaviest >= mass).sum()) / (1 + len(heaviest))), cluster))
                inner = pair_index(names)[np.ix_(cluster, cluster)][np.triu_indices(len(cluster), 1)]
                edges[0, inner] |= weighed.weak[inner]
    half_edges = np.stack([h > threshold(one, HALF_ALPHA) for h, one in zip(halves, half_largest, strict=True)])
    return Evidence(best, scores, edges, half_edges, limit, largest, heavy, len(each))


def weigh_scale(draws: Draws, names: int) -> Weighed:
    count = len(draws.drawn)
    scores = np.stack([draws.score(parts) for parts in RANGES])
    halves = np.stack([draws.score(parts) for parts in HALVES])
    largest = np.array([max(draws.drawn_score(i, parts).max() for parts in RANGES) for i in range(count)])
    half_largest = np.array([[draws.drawn_score(i, parts).max() for i in range(count)] for parts in HALVES])
    whole = [draws.drawn_score(i, RANGES[0]) for i in range(count)]
    limit = _stray_limit(whole, max(1, round(STRAY * names)))
    heaviest = np.array([max((mass for mass, _ in clusters(drawn, limit, names)), default=0.0) for drawn in whole])
    found = clusters(scores[0], limit, names)
    return Weighed(scores, halves, largest, half_largest, scores[0] > limit, found, heaviest)


def _stray_limit(drawn: list[Pairs], kept: int) -> float:
    """The score that `kept` pairs a draw exceed on average."""
    high = np.concatenate([np.sort(one)[-20 * kept :] for one in drawn])
    return float(np.sort(high)[-min(kept * len(drawn), len(high))])


def clusters(scores: Pairs, limit: float, names: int) -> list[tuple[float, tuple[int, ...]]]:
    """Clusters of the pairs above `limit`, each with the sum of their scores."""
    above = scores > limit
    index = pair_index(names)
    found = []
    for group in communities(square(above, names)):
        inner = index[np.ix_(group, group)][np.triu_indices(len(group), 1)]
        found.append((float(scores[inner][above[inner]].sum()), group))
    return found


def threshold(largest: Maxima, alpha: float) -> float:
    """What a value must be above for (1 + draws as large) / (1 + draws) ≤ `alpha`."""
    allowed = int(alpha * (len(largest) + 1)) - 1
    return float(np.sort(largest)[::-1][allowed]) if allowed >= 0 else float("inf")
