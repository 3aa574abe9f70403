"""Who joins a group's bursts beyond chance: the test of one name against the bursts of all its fellows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_activity import Scale
from toolkit.analysis.groups_communities import Group, quorum
from toolkit.analysis.groups_evidence import ALPHA, RANGES, threshold
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


def joining(scale: Scale, groups: Sequence[Group], count: int, seed: int) -> NDArray[np.bool_]:
    """Groups × names: whether a name joins the bursts of a group's other members, in any stretch of the trace.

    Members, whom pairs brought together, must do so at ALPHA each; all others at ALPHA over everybody that is tried.
    Here only the name is turned, not the group: its members do burst together.
    """
    crowds, which = fellows(scale, groups)
    crowd, blocks, edges = in_blocks(scale, crowds), in_blocks(scale, scale.active), part_edges(scale)
    name = np.tile(np.arange(len(blocks)), len(groups))
    mean = expected(crowd, blocks, edges)
    spread, mean = run(crowd, blocks, mean.sum(axis=0))[which, name], mean[:, which, name]
    words, joined, rng = packed(blocks), packed(crowd)[which], np.random.default_rng(seed)

    def standing(moved: Words) -> Pairs:
        together = np.add.reduceat(np.bitwise_count(joined & moved[name]), edges[:-1], axis=1, dtype=np.float32).T
        each = [score(together[parts].sum(axis=0), mean[parts].sum(axis=0), spread) for parts in RANGES]
        largest: Pairs = np.max(each, axis=0)
        return largest

    drawn = np.stack([standing(turned(words, scale.in_block, rng)) for _ in range(count)])
    member = np.concatenate([np.isin(np.arange(len(scale.active)), one) for one in groups])
    limit = np.where(member, np.quantile(drawn, 1 - ALPHA), threshold(drawn.max(axis=1), ALPHA))
    joins: NDArray[np.bool_] = (standing(words) > limit).reshape(len(groups), -1)
    return joins


def fellows(scale: Scale, groups: Sequence[Group]) -> tuple[NDArray[np.bool_], Ints]:
    """Windows in which enough of a group are active, with all its members and without each; and which of these rows
    holds for each name, group by group.
    """
    rows: list[NDArray[np.bool_]] = []
    which = []
    for group in groups:
        busy = scale.active[list(group)].sum(axis=0)
        place = np.full(len(scale.active), len(rows))
        place[list(group)] = len(rows) + 1 + np.arange(len(group))
        rows += [busy >= quorum(group), *(busy - scale.active[m] >= quorum(group) for m in group)]
        which.append(place)
    return np.stack(rows), np.concatenate(which)
