"""Which groups there are, who is a candidate for each, and whether both halves of the trace bear them out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_activity import Scale
from toolkit.analysis.groups_communities import Group, communities, jaccard, quorum
from toolkit.analysis.groups_evidence import ALPHA, RANGES, Evidence, threshold
from toolkit.analysis.groups_null import (
    Ints,
    Pairs,
    Words,
    expected,
    in_blocks,
    packed,
    part_edges,
    run,
    score,
    turned,
)

ALIKE = 0.25  # Jaccard index from which a half, which has half of the evidence, bears a group out
SAME = 0.5  # Jaccard index from which two groups are one group at two times


def found_groups(evidence: Evidence, names: int) -> list[Group]:
    """The groups of the whole trace, or of its stretches where these do not fit into the whole's."""
    edges = evidence.edges
    whole = communities(np.flatnonzero(edges.any(axis=0)), names)
    if not whole:
        return []
    pieces = [communities(np.flatnonzero(edges[i]), names) for i in range(1, len(RANGES))]
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


def candidates(scale: Scale, groups: Sequence[Group], count: int, seed: int) -> NDArray[np.bool_]:
    """Groups × names: members, and who joins a group's bursts beyond chance in any stretch, at ALPHA over all tried.

    Here only the name is turned, not the group: its members do burst together.
    """
    bursting = np.stack([scale.active[list(group)].sum(axis=0) >= quorum(group) for group in groups])
    crowd, blocks, edges = in_blocks(scale, bursting), in_blocks(scale, scale.active), part_edges(scale)
    mean = expected(crowd, blocks, edges)
    spread = run(crowd, blocks, mean.sum(axis=0))
    member = np.zeros(mean.shape[1:], dtype=bool)
    for g, group in enumerate(groups):
        member[g, list(group)] = True
    words, joined, rng = packed(blocks), packed(crowd), np.random.default_rng(seed)

    def standing(together: Pairs) -> Pairs:
        each = [score(together[parts].sum(axis=0), mean[parts].sum(axis=0), spread) for parts in RANGES]
        return np.where(member, 0, np.max(each, axis=0))

    drawn = (_joint(joined, turned(words, scale.in_block, rng), edges) for _ in range(count))
    largest = np.array([standing(one).max(initial=0) for one in drawn])
    return member | (standing(_joint(joined, words, edges)) > threshold(largest, ALPHA))


def _joint(groups: Words, names: Words, edges: Ints) -> Pairs:
    """Windows in which a group bursts and a name is active: parts × groups × names."""
    each = [np.add.reduceat(np.bitwise_count(g & names), edges[:-1], axis=1, dtype=np.float32).T for g in groups]
    return np.stack(each, axis=1)


def borne_out(group: Group, halves: Sequence[Sequence[Group]]) -> bool:
    """Whether either half alone gives a group that is like it."""
    return all(max((jaccard(group, other) for other in half), default=0) >= ALIKE for half in halves)


def half_groups(evidence: Evidence, names: int) -> list[list[Group]]:
    """What each interleaved half alone would give."""
    return [communities(np.flatnonzero(edges), names) for edges in evidence.half_edges]
