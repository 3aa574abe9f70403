"""From pairs that are associated to groups: average linkage, then who else belongs, then whether halves agree."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_evidence import ALPHA, HALVES, RANGES, Evidence, Parts, threshold
from toolkit.analysis.groups_null import Draws

Group = tuple[int, ...]  # names, ascending
Square = NDArray[np.float64]
JOINED = 1 / 3  # two clusters are one when this share of the pairs between them is associated
SAME = 0.5  # Jaccard index from which two groups are one group at two times
HALF_ALPHA = 0.05


def found_groups(evidence: Evidence, names: int) -> list[Group]:
    """The groups of the whole trace, or of its stretches where these do not fit into the whole's."""
    edges = evidence.edges
    whole = communities(square(edges.any(axis=0), names))
    if not whole:
        return []
    pieces = [communities(square(edges[i], names)) for i in range(1, len(RANGES))]
    return _recomposed(whole, pieces) or whole


def _recomposed(whole: list[Group], pieces: Sequence[list[Group]]) -> list[Group]:
    """Where most groups of halves or quarters are unlike any group of the whole: those groups, each once."""
    own = [group for piece in pieces for group in piece if len(group) > 2]
    unlike = [group for group in own if max(jaccard(group, other) for other in whole) < SAME]
    if not own or len(unlike) <= len(own) / 2:
        return []
    kept: list[Group] = []
    for group in own:
        if all(jaccard(group, other) < SAME for other in kept):
            kept.append(group)
    return kept


def communities(adjacent: Square) -> list[Group]:
    """Clusters of at least two by average linkage, largest first."""
    clusters = [[i] for i in np.flatnonzero(adjacent.any(axis=0)).tolist()]
    between = adjacent[np.ix_([c[0] for c in clusters], [c[0] for c in clusters])]
    np.fill_diagonal(between, -1)
    sizes = np.ones(len(clusters))
    while len(clusters) > 1:
        a, b = divmod(int(np.argmax(between)), len(clusters))
        if between[a, b] < JOINED:
            break
        a, b = min(a, b), max(a, b)
        merged = (between[a] * sizes[a] + between[b] * sizes[b]) / (sizes[a] + sizes[b])
        between[a], between[:, a] = merged, merged
        between[a, a] = -1
        clusters[a] += clusters.pop(b)
        sizes[a] += sizes[b]
        sizes = np.delete(sizes, b)
        between = np.delete(np.delete(between, b, axis=0), b, axis=1)
    return sorted((tuple(sorted(c)) for c in clusters if len(c) > 1), key=lambda group: (-len(group), group))


def candidates(evidence: Evidence, groups: Sequence[Group], names: int) -> NDArray[np.bool_]:
    """Groups × names: who is associated with a group as a whole, in any stretch, at ALPHA over all that is tried."""
    draws = evidence.best
    standing = np.zeros((len(RANGES), len(groups), names))
    largest = np.zeros(len(draws.drawn))
    index = pair_index(names)
    for g, group in enumerate(groups):
        pairs = index[np.asarray(group)]  # members × names
        outside = np.setdiff1d(np.arange(names), group)
        for r, parts in enumerate(RANGES):
            observed, drawn = _with_group(draws, parts, pairs)
            mean, spread = drawn.mean(axis=0), drawn.std(axis=0) + 1
            standing[r, g] = (observed - mean) / spread
            if len(outside):
                largest = np.maximum(largest, ((drawn - mean) / spread)[:, outside].max(axis=1))
    member = (standing > threshold(largest, ALPHA)).any(axis=0)
    for g, group in enumerate(groups):
        member[g, list(group)] = True
    return member


def _with_group(draws: Draws, parts: Parts, pairs: NDArray[np.int64]) -> tuple[Square, Square]:
    """Coincidences of every name with all of a group's others, as observed and drawn; `pairs` is −1 for itself."""
    own = pairs >= 0
    observed = (draws.observed[parts].sum(axis=0)[pairs] * own).sum(axis=0)
    drawn = np.zeros((len(draws.drawn), pairs.shape[1]))
    for row, known in zip(pairs, own, strict=True):
        drawn += draws.drawn[:, parts][:, :, row].sum(axis=1) * known
    return observed, drawn


def holds_in_halves(draws: Draws, group: Group, names: int) -> bool:
    """Whether the group's pairs coincide beyond chance in both interleaved halves of the trace."""
    pairs = pair_index(names)[np.ix_(group, group)]
    inner = pairs[np.triu_indices(len(group), 1)]
    for parts in HALVES:
        observed = draws.observed[parts][:, inner].sum()
        drawn = draws.drawn[:, parts][:, :, inner].sum(axis=(1, 2), dtype=np.float64)
        if (1 + (drawn >= observed).sum()) / (1 + len(drawn)) > HALF_ALPHA:
            return False
    return True


def half_groups(evidence: Evidence, names: int) -> list[list[Group]]:
    """What each interleaved half alone would give."""
    found = []
    for parts in HALVES:
        scores = np.max([draws.score(parts) for draws in evidence.scales], axis=0)
        largest = np.max([draws.drawn_score(parts).max(axis=1) for draws in evidence.scales], axis=0)
        found.append(communities(square(scores > threshold(largest, HALF_ALPHA), names)))
    return found


def stability(group: Group, halves: Sequence[Sequence[Group]]) -> float:
    """Mean over the halves of the largest Jaccard index that a group found there has with `group`; 1 is the same."""
    return float(np.mean([max((jaccard(group, other) for other in half), default=0.0) for half in halves]))


def jaccard(a: Sequence[int], b: Sequence[int]) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b))


def square(pairs: NDArray[np.bool_], names: int) -> Square:
    """Pairs as a symmetric matrix."""
    matrix = np.zeros((names, names))
    matrix[np.triu_indices(names, 1)] = pairs
    return matrix + matrix.T


def pair_index(names: int) -> NDArray[np.int64]:
    """Where the pair of two names lies among np.triu_indices; −1 on the diagonal."""
    upper = np.triu_indices(names, 1)
    index = np.full((names, names), -1)
    index[upper] = np.arange(len(upper[0]))
    index.T[upper] = index[upper]
    return index
