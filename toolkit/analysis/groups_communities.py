"""From pairs that are associated to groups: average linkage, and how alike two groups are."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Group = tuple[int, ...]  # names, ascending
Ints = NDArray[np.int64]
JOINED = 0.5  # two clusters are one when more than this share of the pairs between them is associated
QUORUM = 0.4  # the share of a member's fellows that must be active for a burst of the group, and two of them


def communities(pairs: Ints, names: int) -> list[Group]:
    """Clusters of at least two by average linkage of the associated `pairs`, largest first."""
    upper = upper_pairs(names)
    members, place = np.unique(np.stack([upper[0][pairs], upper[1][pairs]]), return_inverse=True)
    a, b = place.reshape(2, -1)
    between = np.zeros((len(members), len(members)))
    between[a, b] = between[b, a] = 1
    np.fill_diagonal(between, -1)
    clusters = [[member] for member in members.tolist()]
    sizes = np.ones(len(clusters))
    while len(clusters) > 1:
        i, j = sorted(divmod(int(np.argmax(between)), len(clusters)))
        if between[i, j] <= JOINED:
            break
        merged = (between[i] * sizes[i] + between[j] * sizes[j]) / (sizes[i] + sizes[j])
        between[i], between[:, i] = merged, merged
        between[i, i] = -1
        clusters[i] += clusters.pop(j)
        sizes[i] += sizes[j]
        sizes = np.delete(sizes, j)
        between = np.delete(np.delete(between, j, axis=0), j, axis=1)
    return sorted((tuple(sorted(c)) for c in clusters if len(c) > 1), key=lambda group: (-len(group), group))


def stability(group: Group, halves: Sequence[Sequence[Group]]) -> float:
    """Mean over the halves of the largest Jaccard index that a group found there has with `group`; 1 is the same."""
    return float(np.mean([max((jaccard(group, other) for other in half), default=0.0) for half in halves]))


def quorum(group: Group) -> int:
    """How many of a member's fellows must be active for a burst of the group."""
    fellows = len(group) - 1
    return max(min(2, fellows), int(np.ceil(QUORUM * fellows)))


def jaccard(a: Sequence[int], b: Sequence[int]) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b))


@cache
def upper_pairs(names: int) -> tuple[Ints, Ints]:
    """The two names of each pair; pairs are counted so everywhere."""
    first, second = np.triu_indices(names, 1)
    return first, second


@cache
def pair_index(names: int) -> NDArray[np.int64]:
    """Where the pair of two names lies among `upper_pairs`; −1 on the diagonal."""
    upper = upper_pairs(names)
    index = np.full((names, names), -1)
    index[upper] = np.arange(len(upper[0]))
    index.T[upper] = index[upper]
    return index


def inner_pairs(group: Sequence[int], names: int) -> NDArray[np.int64]:
    """The pairs of a group's members, as `upper_pairs` counts the pairs of all names."""
    pairs: NDArray[np.int64] = pair_index(names)[np.ix_(group, group)][np.triu_indices(len(group), 1)]
    return pairs
