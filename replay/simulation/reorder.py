"""Put the queues in order again after ranks, or a whole queue's order, have changed."""

import numpy as np

from replay.simulation.compiled import compiled, entry
from replay.simulation.heaps import heap_move, push
from replay.simulation.places import set_keys
from replay.simulation.state import DECODING, DUE, LAST, NONE, PREFILLING, WAITING


@compiled
def ask(state, i):
    """Put the requests that wait at instance `i` into `queue`, in no particular order."""
    state.world[0].asking = i
    state.queue[0] = state.instances[i].root
    count, top = 1, 0
    while top < count:
        child = np.int64(state.requests[state.queue[top]].child)
        while child != NONE:
            state.queue[count] = child
            count += 1
            child = np.int64(state.requests[child].sibling)
        top += 1


@compiled
def take_answer(state):
    """Let the requests in `queue` run in that order."""
    me = state.instances[state.world[0].asking]
    state.world[0].asking = NONE
    me.root = NONE
    for position in range(me.waiting):
        r = state.queue[position]
        state.requests[r].order = position
        me.root = push(state.requests, me.root, r)
    me.stale = 0


@compiled
def _waiting_rank(settings, state, q):
    return q.rank + settings.slope * q.produced + state.offsets[q.level]


@entry
def rerank(settings, state, live, ranks):
    """Give the requests `live` (all that wait or run, and any that will arrive) new ranks."""
    for i in range(state.instances.size):
        state.instances[i].root = NONE
        state.instances[i].stale = 1
    for position in range(live.size):
        r = np.int64(live[position])
        q = state.requests[r]
        q.rank = ranks[position]
        me = state.instances[q.instance]
        if q.status == WAITING:
            q.order = _waiting_rank(settings, state, q)
            me.root = push(state.requests, me.root, r)
        elif q.status == PREFILLING:
            q.order = _waiting_rank(settings, state, q)
        elif q.status == DECODING:
            set_keys(settings, state, r)
            heap_move(state, np.int64(q.instance), DUE, r, me.decodes)
            heap_move(state, np.int64(q.instance), LAST, r, me.decodes)
