"""How many decode steps are alike: until something is due, runs out, arrives or changes places.

Steps in between decide nothing, so they are taken at once and their times summed in closed form. A jump never changes
a result: every bound here is the comparison a single step would make. While nobody waits that may take another's place,
ranks are not read, and the bends of their curves cut no jump.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.latency import sum_of
from replay.simulation.places import last_rank
from replay.simulation.queues import head, stays_next
from replay.simulation.state import BEND, DUE, LAST, NEVER


@compiled
def needed(settings, state, i):
    """Blocks that what decodes takes in the next step."""
    return np.int64(state.residue[i, state.instances[i].decoded % settings.block_tokens])


@compiled
def blocks_for(settings, state, i, steps):
    """Blocks that what decodes takes in `steps` steps."""
    size, me = settings.block_tokens, state.instances[i]
    blocks = (steps // size) * me.decodes
    for step in range(steps - steps % size, steps):
        blocks += state.residue[i, (me.decoded + step) % size]
    return blocks


@compiled
def steps_within(settings, state, i, blocks, most):
    """How many of `most` decode steps take no more than `blocks` blocks together."""
    size, me = settings.block_tokens, state.instances[i]
    if me.decodes * ((most + size - 1) // size) <= blocks:
        return most
    rounds = blocks // me.decodes
    steps, left = rounds * size, blocks - rounds * me.decodes
    while steps < most:
        left -= state.residue[i, (me.decoded + steps) % size]
        if left < 0:
            break
        steps += 1
    return min(steps, most)


@called
def _in_order(settings, state, i, most):
    """How many of `most` steps end no later than the first of the waiting may rank before the last of the running."""
    me = state.instances[i]
    if settings.displace == 0 or me.waiting == 0:
        return most
    slope, nobody = settings.victim_slope, last_rank(settings, state, i) == -np.inf
    if me.bends > 0:
        most = min(most, np.int64(state.key[BEND, state.heap[i, BEND, 0]]) - me.decoded)
    if slope <= 0 or nobody:
        return most
    rank = state.requests[head(settings, state, i)].order + settings.hysteresis
    last = state.key[LAST, state.heap[i, LAST, 0]]
    low, high = np.int64(1), most
    while low < high:
        middle = (low + high) // 2
        if rank < slope * (me.decoded + middle) - last:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def _in_time(first, rise, most, time):
    """How many of `most` steps start before `time` from now has passed; at least one."""
    if sum_of(first, rise, most - 1) < time:
        return most
    low, high = np.int64(1), min(most, (time - 1) // first + 2)  # the `low`-th starts in time, the `high`-th does not
    while high - low > 1:
        middle = (low + high) >> 1
        if sum_of(first, rise, middle - 1) < time:
            low = middle
        else:
            high = middle
    return low


@compiled
def steps_alike(settings, state, i, first, rise, most, until):
    """How many of `most` decode steps, timed by `first` and `rise`, can be taken at once and start before `until`."""
    me = state.instances[i]
    if settings.jump == 0:
        return np.int64(1)
    most = min(most, np.int64(state.key[DUE, state.heap[i, DUE, 0]]) - me.decoded)
    most = _in_order(settings, state, i, most)
    most = stays_next(settings, state, i, most)
    most = steps_within(settings, state, i, me.free + needed(settings, state, i), most)  # the first step's are held
    if until == NEVER or most <= 1:
        return most
    return _in_time(first, rise, most, until - me.clock)
