"""Membership over time: who joins a group's bursts, from when to when.

A group's burst is a run of windows in which enough of its members are active. Whether a name takes part in each burst
is evidence for or against its being a member then; the likeliest path through "in no group, in this one, in that one"
(Viterbi, a change costs CHANGE) is its membership. So a name is in one group at a time, and a single missed burst is
partial participation while many in a row are a departure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_activity import Scale
from toolkit.analysis.groups_communities import Group, quorum

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHANGE = 8.0  # nats: what a change of membership must explain
ROUNDS = 4
LEAST_MORE = 0.05  # a member joins bursts at least so much more often than by chance
NEVER = -1.0  # nats a burst against a name that is no candidate for its group
GONE = 1e-4  # a pause in a group's bursts this improbable, were it still there, ends it


@dataclass(frozen=True)
class Bursts:
    """Runs of windows [first, last] in order; `group` counts the groups. Rows of the matrices are bursts."""

    first: Ints
    last: Ints
    group: Ints
    took_part: NDArray[np.bool_]  # bursts × names
    fellows: Ints  # bursts × names: members but this one that took part


@dataclass(frozen=True)
class Epoch:
    """A stretch of windows [first, last] in which a group has these members."""

    group: int
    members: Group
    first: int
    last: int


def bursts_of(scale: Scale, groups: Sequence[Group]) -> Bursts:
    """Every group's bursts, in order of time."""
    runs = [_runs(scale.active[list(group)].sum(axis=0) >= quorum(group)) for group in groups]
    first, last = (np.concatenate([run[i] for run in runs]) for i in (0, 1))
    which = np.repeat(np.arange(len(groups)), [len(run[0]) for run in runs])
    order = np.argsort(first, kind="stable")
    first, last, which = first[order], last[order], which[order]
    took = _any_between(scale.active, first - 1, last + 1)
    member = np.zeros((len(groups), len(scale.active)), dtype=np.int64)
    for g, group in enumerate(groups):
        member[g, list(group)] = 1
    own = took & (member[which] > 0)
    return Bursts(first, last, which, took, own.sum(axis=1, keepdims=True) - own)


def memberships(scale: Scale, groups: Sequence[Group], bursts: Bursts, allowed: NDArray[np.bool_]) -> Ints:
    """Bursts × names: the group each name is in at each burst, −1 for none; `allowed` is groups × names.

    How often a name joins a group's bursts while it is a member is found with the membership itself, in ROUNDS.
    """
    chance = np.stack([_chance(scale, bursts, g) for g in range(len(groups))])
    counts = bursts.fellows >= np.array([quorum(group) for group in groups])[bursts.group][:, None]
    inside = np.ones(counts.shape, dtype=bool)
    for _ in range(ROUNDS):
        path = likeliest(_gains(bursts, chance, counts, inside, allowed), bursts.group, len(groups))
        inside = path == bursts.group[:, None]
    return path


def likeliest(gain: Floats, group: Ints, groups: int) -> Ints:
    """Viterbi's path over `groups` states and none (−1): a burst of `group[i]` gains `gain[i]` to those in it."""
    names = gain.shape[1]
    best = np.zeros((names, groups + 1))
    came = np.zeros((len(gain), names, groups + 1), dtype=np.int16)
    at, states = np.arange(names), np.arange(groups + 1)
    for i, which in enumerate(group):
        top = best.argmax(axis=1)
        change = (best[at, top] - CHANGE)[:, None]
        stays = best >= change
        came[i] = np.where(stays, states, top[:, None])
        best = np.where(stays, best, change)
        best[:, which] += gain[i]
    path = np.empty((len(gain), names), dtype=np.int64)
    state = best.argmax(axis=1)
    for i in range(len(gain) - 1, -1, -1):
        path[i] = state
        state = came[i, at, state]
    return np.where(path == groups, -1, path)


def _gains(
    bursts: Bursts, chance: Floats, counts: NDArray[np.bool_], inside: NDArray[np.bool_], allowed: NDArray[np.bool_]
) -> Floats:
    """Bursts × names: log likelihood of what a name did if it is a member, less that if it is not."""
    gain = np.full(counts.shape, NEVER)
    for g, names in enumerate(allowed):
        own = np.ix_(bursts.group == g, names)
        took, known, alone = bursts.took_part[own], counts[own], chance[g][own[1][0]]
        member = known & inside[own]
        usual = ((took & member).sum(axis=0) + 0.5) / (member.sum(axis=0) + 1)
        usual = np.clip(usual, np.minimum(alone + LEAST_MORE, 0.97), 0.98)
        log = np.where(took, np.log(usual / alone), np.log((1 - usual) / (1 - alone)))
        gain[own] = np.where(known, log, 0)
    return gain


def _chance(scale: Scale, bursts: Bursts, group: int) -> Floats:
    """How likely each name is active within a usual burst of the group by its activity outside the group's bursts."""
    own = bursts.group == group
    first, last = bursts.first[own], bursts.last[own]
    steps = np.zeros(scale.active.shape[1] + 2, dtype=np.int64)
    np.add.at(steps, np.maximum(first - 2, 0), 1)
    np.add.at(steps, np.minimum(last + 3, len(steps) - 1), -1)
    outside = np.cumsum(steps)[: scale.active.shape[1]] == 0
    share = (scale.active[:, outside].sum(axis=1) + 0.5) / (outside.sum() + 1)
    chance: Floats = np.clip(1 - (1 - share) ** float((last - first + 3).mean()), 0.005, 0.9)
    return chance


def epochs(path: Ints, bursts: Bursts, groups: Sequence[Group], windows: int) -> list[Epoch]:
    """Stretches of constant membership of at least two, by group and time."""
    found = []
    for g in range(len(groups)):
        own = np.flatnonzero(bursts.group == g)
        inside = path[own] == g
        if not len(own):
            continue
        changes = np.flatnonzero((inside[1:] != inside[:-1]).any(axis=1)) + 1
        changes = np.union1d(_settled(changes, len(own)), _pauses(bursts, own))
        edges = [0, *changes.tolist(), len(own)]
        for a, b in pairwise(edges):
            members = tuple(np.flatnonzero(inside[a:b].mean(axis=0) > 0.5).tolist())
            if len(members) > 1 and b - a > 1:
                found.append(Epoch(g, members, *_stretch(bursts, own, a, b, windows)))
    return _merged(found)


def _settled(changes: Ints, bursts: int) -> Ints:
    """Changes that follow each other within a few bursts are one, at their middle."""
    if not len(changes):
        return changes
    near = np.split(changes, np.flatnonzero(np.diff(changes) > max(3, bursts // 20)) + 1)
    return np.array([int(np.median(part)) for part in near])


def _pauses(bursts: Bursts, own: Ints) -> Ints:
    """Bursts before which a group was silent for too long to be still there."""
    gaps = bursts.first[own][1:] - bursts.last[own][:-1]
    if not len(gaps):
        return gaps
    return np.flatnonzero(gaps > np.mean(gaps) * np.log(len(gaps) / GONE)) + 1


def _stretch(bursts: Bursts, own: Ints, a: int, b: int, windows: int) -> tuple[int, int]:
    """From burst a to before burst b; to the middle between bursts, and to the trace's ends where they are near."""
    first, last = bursts.first[own], bursts.last[own]
    quiet = np.diff(first[a:b]).mean() * np.log((b - a) / GONE)
    begin = first[a] if a == 0 or first[a] - last[a - 1] > quiet else (last[a - 1] + first[a]) // 2
    end = last[b - 1] if b == len(own) or first[b] - last[b - 1] > quiet else (last[b - 1] + first[b]) // 2 - 1
    begin = 0 if a == 0 and first[0] < quiet else begin
    end = windows - 1 if b == len(own) and windows - last[-1] < quiet else end
    return int(begin), int(max(end, begin))


def _merged(found: Sequence[Epoch]) -> list[Epoch]:
    """Epochs of one group with the same members that touch are one."""
    merged: list[Epoch] = []
    for epoch in found:
        before = merged[-1] if merged else None
        if before and (before.group, before.members) == (epoch.group, epoch.members) and epoch.first <= before.last + 2:
            merged[-1] = Epoch(epoch.group, epoch.members, before.first, epoch.last)
        else:
            merged.append(epoch)
    return merged


def _runs(on: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """First and last window of each run of true, a single false between two runs bridged."""
    bridged = on.copy()
    bridged[1:-1] |= on[:-2] & on[2:]
    steps = np.diff(np.concatenate([[0], bridged.astype(np.int8), [0]]))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1


def _any_between(active: NDArray[np.bool_], first: Ints, last: Ints) -> NDArray[np.bool_]:
    """Runs × names: whether a name is active in any window of [first, last]."""
    total = np.concatenate([np.zeros((len(active), 1), np.int32), np.cumsum(active, axis=1, dtype=np.int32)], axis=1)
    begin, end = np.maximum(first, 0), np.minimum(last + 1, active.shape[1])
    any_active: NDArray[np.bool_] = (total[:, end] > total[:, begin]).T
    return any_active
