"""Which groups there are, and whether both halves of the trace bear them out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_communities import Group, communities, jaccard
from toolkit.analysis.groups_evidence import RANGES, Evidence

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


def without_strangers(groups: Sequence[Group], joins: NDArray[np.bool_]) -> list[Group]:
    """The groups less the members that do not join their fellows' bursts; those of two or more."""
    kept = (tuple(m for m in group if joins[g, m]) for g, group in enumerate(groups))
    return [group for group in kept if len(group) > 1]


def borne_out(group: Group, halves: Sequence[Sequence[Group]]) -> bool:
    """Whether either half alone gives a group that is like it."""
    return all(max((jaccard(group, other) for other in half), default=0) >= ALIKE for half in halves)


def half_groups(evidence: Evidence, names: int) -> list[list[Group]]:
    """What each interleaved half alone would give."""
    return [communities(np.flatnonzero(edges), names) for edges in evidence.half_edges]
