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

from toolkit.analysis.groups_activity import Scale, around
from toolkit.analysis.groups_communities import Group, quorum

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHANGE = 8.0  # nats: what a change of membership must explain
ROUNDS = 4
LEAST_MORE = 0.05  # a member joins bursts at least so much more often than by chance
NEVER = -1.0  # nats a burst against a name that is no candidate for its group
GONE = 1e-4  # a pause in a group's bursts this improbable, were it still there, ends it
LEAST_HOURS = 46  # two days, of which the last hours may be cut off


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


def epochs(path: Ints, bursts: Bursts, groups: Sequence[Group], scale: Scale) -> list[Epoch]:
    """Stretches of constant membership of at least two, by group and time."""
    found, windows = [], scale.active.shape[1]
    for g in range(len(groups)):
        own = np.flatnonzero(bursts.group == g)
        inside = path[own] == g
        if not len(own):
            continue
        first, last = bursts.first[own], bursts.last[own]
        clocks = [np.arange(windows + 1.0), daily_clock(scale, groups[g], bursts, own)]
        gone = np.union1d(_changes(inside.any(axis=1)), _pauses(first, last, clocks))
        edges = np.unique([0, *gone, *_settled(_changes(inside), gone, len(own)), len(own)])
        for a, b in pairwise(edges.tolist()):
            members = tuple(np.flatnonzero(inside[a:b].mean(axis=0) > 0.5).tolist())
            if len(members) > 1 and b - a > 1:
                found.append(Epoch(g, members, *_stretch(first, last, a, b, clocks)))
    return _merged(found)


def _changes(inside: NDArray[np.bool_]) -> Ints:
    """The bursts from which on anyone's membership is another."""
    return np.flatnonzero((inside[1:] != inside[:-1]).reshape(max(len(inside) - 1, 0), -1).any(axis=1)) + 1


def _settled(changes: Ints, gone: Ints, bursts: int) -> Ints:
    """Changes that follow each other within a few bursts are one, at their middle; none beside when all come or go."""
    few = max(3, bursts // 20)
    near = np.split(changes, np.flatnonzero(np.diff(changes) > few) + 1)
    middles = np.array([int(np.median(part)) for part in near if len(part)], dtype=np.int64)
    kept: Ints = middles[(np.abs(middles[:, None] - gone) > few).all(axis=1)]
    return kept


def daily_clock(scale: Scale, group: Group, bursts: Bursts, own: Ints) -> Floats:
    """When each window begins, and the last ends, in a time that runs as fast as a group's pairs usually coincide then.

    In a deep night it nearly stands still: what does not come while nothing is expected is not gone. What is usual is
    told by the group's `own` bursts at that hour of all days; in less than two days, by how active all others are then.
    """
    windows = scale.active.shape[1]
    hour = (np.arange(windows) * scale.window_s // 3600).astype(np.int64)
    if hour[-1] < LEAST_HOURS:
        others = np.delete(scale.active, list(group), axis=0).sum(axis=0, dtype=np.float32)[None]
        usual = around(others, round(3600 / scale.window_s))[0] if others.any() else np.ones(windows)
    else:
        hour %= 24
        there = bursts.took_part[own][:, list(group)].sum(axis=1)
        came = np.bincount(hour[bursts.first[own]], weights=there * (there - 1), minlength=24)
        counts = np.stack([came, np.bincount(hour, minlength=24)])
        near, seen = counts + np.roll(counts, 1, axis=1) + np.roll(counts, -1, axis=1)  # an hour has few bursts
        usual = (near / seen)[hour]
    return np.append(0.0, np.cumsum(usual, dtype=np.float64))


def _pauses(first: Ints, last: Ints, clocks: Sequence[Floats]) -> Ints:
    """Bursts before which a group was silent for too long to be still there, by every clock."""
    if len(first) < 2:
        return np.zeros(0, dtype=np.int64)
    gaps = np.stack([clock[first[1:]] - clock[last[:-1]] for clock in clocks])
    return np.flatnonzero((gaps > gaps.mean(axis=1, keepdims=True) * np.log(gaps.shape[1] / GONE)).all(axis=0)) + 1


def _stretch(first: Ints, last: Ints, a: int, b: int, clocks: Sequence[Floats]) -> tuple[int, int]:
    """From burst a to before burst b; to the middle between bursts, and to the trace's ends where they are near."""
    quiet = [float(np.diff(clock[first[a:b]]).mean() * np.log((b - a) / GONE)) for clock in clocks]

    def near(begin: int, end: int) -> bool:
        return any(clock[end] - clock[begin] <= most for clock, most in zip(clocks, quiet, strict=True))

    begin, end, windows = int(first[a]), int(last[b - 1]), len(clocks[0]) - 1
    if a == 0:
        begin = 0 if near(0, begin) else begin
    elif near(int(last[a - 1]), begin):
        begin = int(last[a - 1] + begin) // 2
    if b == len(first):
        end = windows - 1 if near(end, windows - 1) else end
    elif near(end, int(first[b])):
        end = int(end + first[b]) // 2 - 1
    return begin, max(end, begin)


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
