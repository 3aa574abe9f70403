"""Ask a scheduler to order the queues of all engines that share a GPU, as if they were one."""

import numpy as np

from replay.simulation.compiled import called
from replay.simulation.heaps import pop, push
from replay.simulation.reorder import ORDERED, STRIDE, give_ranks_back
from replay.simulation.state import NONE
from toolkit.placing import READY


@called
def _together(pool, e, position, other):
    """The engine at a place of one of `e`'s GPUs when it shares `e`'s queue and was not met on an earlier GPU."""
    o = pool.hosted[pool.places[e, position], other]
    if pool.engines[o].status != READY or (pool.cluster[0].arbitrates == 0 and o != e):
        return np.int64(NONE)
    for earlier in range(position):
        for mine in range(pool.engines[o].width):
            if pool.places[o, mine] == pool.places[e, earlier]:
                return np.int64(NONE)
    return o


@called
def asks_together(all_settings, state, pool, e):
    """Whether somebody could be admitted from queues of several that have changed since they were ordered."""
    me = state.instances[e]
    if me.waiting == 0 or me.running >= all_settings[pool.engines[e].model].max_num_seqs:
        return False
    stale, waiting = False, np.int64(0)
    for position in range(pool.engines[e].width):
        for other in range(pool.gpus[pool.places[e, position]].engines):
            o = _together(pool, e, position, other)
            if o != NONE:
                stale = stale or state.instances[o].stale == 1
                waiting += state.instances[o].waiting
    return stale and waiting > 1


@called
def _first_together(state, pool, e):
    """The engine whose first waiting request ranks before the others'; NONE where nobody waits."""
    best = np.int64(NONE)
    for position in range(pool.engines[e].width):
        for other in range(pool.gpus[pool.places[e, position]].engines):
            o = _together(pool, e, position, other)
            if o == NONE or state.lanes[o].root == NONE:
                continue
            if best == NONE:
                best = o
                continue
            a, b = state.lanes[o].root, state.lanes[best].root
            if state.requests[a].order < state.requests[b].order or (
                state.requests[a].order == state.requests[b].order and a < b
            ):
                best = o
    return best


@called
def ask_together(settings, state, pool, e):
    """Take the requests that rank first at the engines that share `e`'s queue out of it, into `queue`."""
    world = state.world[0]
    for position in range(pool.engines[e].width):
        for other in range(pool.gpus[pool.places[e, position]].engines):
            o = _together(pool, e, position, other)
            if o != NONE:
                give_ranks_back(settings, state, o)
                state.instances[o].stale = 0
    world.asking = e
    world.asked = 0
    while world.asked < settings.window:
        o = _first_together(state, pool, e)
        if o == NONE:
            break
        it = state.lanes[o]
        state.queue[world.asked] = it.root
        it.root = pop(state.requests, it.root)
        world.asked += 1


@called
def take_answer_together(state, pool):
    """Let the requests in `queue` run in that order, before the rest, each at its own engine."""
    world = state.world[0]
    for position in range(world.asked):
        r = state.queue[position]
        it = state.lanes[state.requests[r].instance]
        state.requests[r].order = ORDERED + STRIDE * position
        it.root = push(state.requests, it.root, r)
    world.asking = NONE
