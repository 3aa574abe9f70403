"""Which groups there are, and whether both halves of the trace bear them out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_communities import JOINED, Group, communities, inner_pairs, jaccard, pair_index
from toolkit.analysis.groups_evidence import ALPHA, HALVES, RANGES, Evidence, share_as_large
from toolkit.analysis.groups_null import Draws, Ints

Floats = NDArray[np.float64]

ALIKE = 0.25  # Jaccard index from which a half, which has half of the evidence, bears a group out
GONE = 0.01  # so few coincidences, were the group there, are this improbable
SAME = 0.5  # Jaccard index from which two groups are one group at two times


def found_groups(evidence: Evidence, names: int) -> list[Group]:
    """The groups of the whole trace, or of its stretches where these do not fit into the whole's."""
    edges = evidence.edges
    whole = communities(np.flatnonzero(edges.any(axis=0)), names)
    if not whole:
        return []
    stretches = zip(RANGES[1:], edges[1:], strict=True)
    pieces = [(group, parts) for parts, own in stretches for group in communities(np.flatnonzero(own), names)]
    return _recomposed(evidence.best, whole, [piece for piece in pieces if len(piece[0]) > 2], names) or whole


def _recomposed(draws: Draws, whole: list[Group], pieces: Sequence[tuple[Group, Ints]], names: int) -> list[Group]:
    """Where most groups of halves or quarters are unlike any group of the whole: those groups, each once."""

    def new(group: Group, parts: Ints, others: Sequence[Group]) -> bool:
        same = (jaccard(group, o) >= SAME or fragment(draws, group, o, parts, names) for o in others)
        return not any(same)

    if sum(new(group, parts, whole) for group, parts in pieces) <= len(pieces) / 2:
        return []
    kept: list[Group] = []
    for group, parts in pieces:
        if new(group, parts, kept):
            kept.append(group)
    return kept


def fragment(draws: Draws, group: Group, whole: Group, parts: Ints, names: int) -> bool:
    """Whether `group` is what a stretch with little evidence shows of `whole`, rather than a group of its own.

    It is, where its members burst with the rest of `whole` in that stretch as well, at JOINED of their own excess.
    """
    rest = [name for name in whole if name not in group]
    if not rest or not set(group) < set(whole):
        return False
    excess = (draws.observed[parts] - draws.expected[parts]).sum(axis=0) / draws.run
    across = pair_index(names)[np.ix_(group, rest)]
    return bool(excess[across].mean() > JOINED * excess[inner_pairs(group, names)].mean())


def without_strangers(groups: Sequence[Group], joins: NDArray[np.bool_]) -> list[Group]:
    """The groups less the members that do not join their fellows' bursts; those of two or more."""
    kept = (tuple(m for m in group if joins[g, m]) for g, group in enumerate(groups))
    return [group for group in kept if len(group) > 1]


def borne_out(draws: Draws, group: Group, halves: Sequence[Sequence[Group]], names: int) -> bool:
    """Whether each half alone gives a group that is like it or, for three and more, holds for the group as a whole."""
    alike = [max((jaccard(group, other) for other in half), default=0) >= ALIKE for half in halves]
    if len(group) > 2:
        alike = [one or holds(draws, group, parts, names) for one, parts in zip(alike, HALVES, strict=True)]
    return all(alike)


def holds(draws: Draws, group: Group, parts: Ints, names: int) -> bool:
    """Whether the group's pairs together coincide beyond chance in a part of the trace, at ALPHA."""
    inner = inner_pairs(group, names)
    observed = float(draws.observed[parts][:, inner].sum())
    drawn = draws.drawn[:, parts][:, :, inner].sum(axis=(1, 2), dtype=np.float64)
    return share_as_large(drawn, observed) <= ALPHA


def absent(draws: Draws, group: Group, names: int, load: Floats) -> Ints:
    """The parts of the trace in which the group's members coincide so seldom that it is not there.

    Coincidences beyond the expected, in bursts of all pairs at once, against those of the better half of the parts;
    `load` says how many are usual in each part. Where too few are usual to tell, as in a deep night, the group is what
    it is before and after, and between the two what is the likelier.
    """
    inner = inner_pairs(group, names)
    excess = (draws.observed[:, inner] - draws.expected[:, inner]).sum(axis=1) / draws.run[inner].sum()
    better = np.argsort(excess / np.maximum(load, 1e-9))[len(excess) // 2 :]
    usual = np.maximum(load * excess[better].sum() / max(load[better].sum(), 1e-9), 1e-9)
    seen = np.clip(excess, 1e-9, None)
    surprise = seen * np.log(seen / usual) - (seen - usual)
    gone, few = (seen < usual) & (surprise > -np.log(GONE)), seen < usual / 2
    told = np.flatnonzero(gone | ((usual > -np.log(GONE)) & ~few))
    if not len(told):
        return told
    parts = np.arange(len(excess))
    before = told[np.maximum(np.searchsorted(told, parts, side="right") - 1, 0)]
    after = told[np.minimum(np.searchsorted(told, parts), len(told) - 1)]
    return np.flatnonzero((gone[before] & gone[after]) | (few & (gone[before] | gone[after])))


def half_groups(evidence: Evidence, names: int) -> list[list[Group]]:
    """What each interleaved half alone would give."""
    return [communities(np.flatnonzero(edges), names) for edges in evidence.half_edges]
