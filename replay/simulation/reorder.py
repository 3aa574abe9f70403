"""Put the queues in order again after ranks, or the order of a queue's first, have changed.

What the scheduler has ordered stands before everything else, and is given its rank back before it is asked again.
"""

import numpy as np

from replay.simulation.compiled import called, entry
from replay.simulation.heaps import pop, push, remove
from replay.simulation.places import rank_anew
from replay.simulation.queues import waiting_rank
from replay.simulation.state import DECODING, NONE, PREFILLING, WAITING

ORDERED = -1e18  # the order of the first of them
STRIDE = 256.0  # and the distance to the next: two numbers of this size differ by as much


@called
def give_ranks_back(settings, state, i):
    it = state.lanes[i]
    while it.root != NONE and state.requests[it.root].order < ORDERED / 2:
        r = it.root + 0
        it.root = pop(state.requests, r)
        state.requests[r].order = waiting_rank(settings, state, r)
        it.root = push(state.requests, it.root, r)


@called
def ask(settings, state, i):
    """Take the requests that rank first at instance `i` out of its queue, and put them into `queue`."""
    world, it = state.world[0], state.lanes[i]
    give_ranks_back(settings, state, i)
    world.asking = i
    world.asked = min(settings.window, state.instances[i].waiting)
    for position in range(world.asked):
        state.queue[position] = it.root
        it.root = pop(state.requests, it.root)


@called
def take_answer(state):
    """Let the requests in `queue` run in that order, before the rest."""
    world = state.world[0]
    it = state.lanes[world.asking]
    for position in range(world.asked):
        r = state.queue[position]
        state.requests[r].order = ORDERED + STRIDE * position
        it.root = push(state.requests, it.root, r)
    state.instances[world.asking].stale = 0
    world.asking = NONE


@entry
def rerank(settings, state, live, ranks, all_that_wait):
    """Give the requests `live` (some, or all, that wait; some that run or will arrive) new ranks."""
    for i in range(state.instances.size):
        state.instances[i].stale = 1
    if all_that_wait:  # they are put together anew, which is less work than taking each out
        for lane in range(state.lanes.size):
            state.lanes[lane].root = NONE
    for position in range(live.size):
        r = np.int64(live[position])
        q = state.requests[r]
        q.rank = ranks[position]
        if q.status == WAITING:
            it = state.lanes[q.instance * settings.lanes + q.lane]
            if not all_that_wait:
                it.root = remove(state.requests, it.root, r)
            q.order = waiting_rank(settings, state, r)
            it.root = push(state.requests, it.root, r)
        elif q.status == PREFILLING:
            q.order = waiting_rank(settings, state, r)
        elif q.status == DECODING:
            rank_anew(settings, state, np.int64(q.instance), r)
