"""Who joins a group's bursts beyond chance: the test of one name against the bursts of all its fellows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_activity import Scale
from toolkit.analysis.groups_communities import Group, quorum
from toolkit.analysis.groups_evidence import ALPHA, RANGES, threshold
from toolkit.analysis.groups_null import (
    Blocks,
    Ints,
    Pairs,
    in_blocks,
    packed,
    part_edges,
    power,
    score,
    shrunk,
    turned,
)


def joining(scale: Scale, groups: Sequence[Group], count: int, seed: int) -> NDArray[np.bool_]:
    """Groups × names: whether a name joins the bursts of a group's other members, in any stretch of the trace.

    Members, whom pairs brought together, must do so at ALPHA each; all others at ALPHA over everybody that is tried.
    Here only the name is turned, not the group: its members do burst together.
    """
    name, crowds = fellows(scale, groups)
    crowd, blocks, edges = in_blocks(scale, crowds), in_blocks(scale, scale.active), part_edges(scale)
    mean, run = _moments(crowd, blocks, name, edges)
    words, joined, rng = packed(blocks), packed(crowd), np.random.default_rng(seed)

    def standing(moved: NDArray[np.uint64]) -> Pairs:
        together = np.add.reduceat(np.bitwise_count(joined & moved[name]), edges[:-1], axis=1, dtype=np.float32).T
        return np.max([score(together[parts].sum(axis=0), mean[parts].sum(axis=0), run) for parts in RANGES], axis=0)

    drawn = np.stack([standing(turned(words, scale.in_block, rng)) for _ in range(count)])
    member = np.concatenate([np.isin(np.arange(len(scale.active)), one) for one in groups])
    limit = np.where(member, np.quantile(drawn, 1 - ALPHA), threshold(drawn.max(axis=1), ALPHA))
    return (standing(words) > limit).reshape(len(groups), -1)


def fellows(scale: Scale, groups: Sequence[Group]) -> tuple[Ints, NDArray[np.bool_]]:
    """For every group and name: the name, and the windows in which enough of the group without it are active."""
    rows = []
    for one in groups:
        busy = scale.active[list(one)].sum(axis=0)
        own = np.isin(np.arange(len(scale.active)), one)[:, None]
        rows.append((busy - scale.active * own) >= quorum(one))
    return np.tile(np.arange(len(scale.active)), len(groups)), np.concatenate(rows)


def _moments(crowd: Blocks, blocks: Blocks, name: Ints, edges: Ints) -> tuple[Pairs, Pairs]:
    """Mean by part, and variance over mean, of the coincidences over all turns; row i of `crowd` goes with name i."""
    in_block = np.float32(blocks.shape[2])
    busy = blocks.sum(axis=2, dtype=np.float32)[name] * crowd.sum(axis=2, dtype=np.float32) / in_block
    mean: Pairs = np.add.reduceat(busy, edges[:-1], axis=1).T
    variance = np.einsum("ij,ij->i", power(crowd), power(blocks)[name]) / in_block**2
    return mean, shrunk(variance, mean.sum(axis=0))
