"""What the controller does to the state between moves: take an engine off, make room, move a queue, give up."""

import numpy as np

from replay.cluster.moves import sleep, wake
from replay.cluster.pages import drop_cache, drop_caches, settle, show
from replay.simulation.compiled import called, compiled, entry
from replay.simulation.memory import unpark
from replay.simulation.places import end, preempt, victim
from replay.simulation.queues import forget_turn, head, join, leave
from replay.simulation.state import NONE, REJECTED
from toolkit.placing import ABSENT

CLEAR, MAKE_ROOM, SQUEEZE, MOVE_QUEUE, GIVE_UP, ROUSE = range(6)


@called
def _show(state, pool, e):
    show(state, pool, e)


@called
def _settle(all_settings, state, pool, e):
    settle(all_settings, state, pool, e)


@called
def _lose_one(all_settings, state, pool, e):
    """Preempt the request of an engine that loses its place first."""
    settings = all_settings[pool.engines[e].model]
    _show(state, pool, e)
    preempt(settings, state, e, victim(settings, state, e), np.int64(NONE))
    _settle(all_settings, state, pool, e)


@called
def _clear(all_settings, state, pool, e):
    """Take everything off an engine: what runs waits again, its cache is gone. Returns tokens of KV to be moved out."""
    it, me = pool.engines[e], state.instances[e]
    me.granted = 0
    while me.running > 0:
        _lose_one(all_settings, state, pool, e)
    if it.cached > 0:
        drop_cache(all_settings[it.model], state, pool, e, it.cached + 0)
    sleep(pool, e)
    it.blocked = 0
    it.status = ABSENT
    moved = me.moved + 0
    me.moved = 0
    return moved


@compiled
def _largest(state, pool, g):
    """The engine on a GPU that holds most pages and runs somebody; NONE where none does."""
    best = np.int64(NONE)
    for position in range(pool.gpus[g].engines):
        e = pool.hosted[g, position]
        if state.instances[e].running > 0 and (best == NONE or pool.engines[e].pages > pool.engines[best].pages):
            best = e
    return best


@called
def _make_room(all_settings, state, pool, g):
    """Take KV memory from the engines of a GPU until no page is owed."""
    drop_caches(all_settings, state, pool, g, NONE)
    while pool.gpus[g].free < 0:
        e = _largest(state, pool, g)
        if e == NONE:
            return
        state.instances[e].granted = 0
        _lose_one(all_settings, state, pool, e)
        drop_caches(all_settings, state, pool, g, NONE)


@called
def _squeeze(all_settings, state, pool, e):
    """Take KV memory from an engine until it is within its limit."""
    it, me = pool.engines[e], state.instances[e]
    if it.pages > it.limit and it.cached > 0:
        drop_cache(all_settings[it.model], state, pool, e, it.cached + 0)
    me.granted = 0
    while it.pages > it.limit and me.running > 0:
        _lose_one(all_settings, state, pool, e)
        if it.cached > 0:
            drop_cache(all_settings[it.model], state, pool, e, it.cached + 0)


@called
def _move_queue(all_settings, state, pool, a, b, now):
    """Let everything that waits at engine `a` wait at `b`."""
    settings = all_settings[pool.engines[a].model]
    _show(state, pool, a)
    while state.instances[a].waiting > 0:
        r = head(settings, state, a)
        leave(settings, state, a, r)
        unpark(settings, state, a, r)
        state.requests[r].instance = b
        join(settings, state, b, r)
    _settle(all_settings, state, pool, a)
    wake(state, pool, b, now)


@called
def _give_up(all_settings, state, pool, e, reason, now):
    """Reject the first request that waits at an engine."""
    settings = all_settings[pool.engines[e].model]
    r = head(settings, state, e)
    _show(state, pool, e)
    leave(settings, state, e, r)
    forget_turn(state, r)
    unpark(settings, state, e, r)
    _settle(all_settings, state, pool, e)
    state.requests[r].status = REJECTED
    state.requests[r].reason = reason
    end(settings, state, r, now)


@entry
def change(all_settings, state, pool, what, a, b, now):
    """Do one thing to engine or GPU `a` at `now`; CLEAR returns the tokens of KV that have to be moved out."""
    if what == CLEAR:
        return _clear(all_settings, state, pool, a)
    if what == MAKE_ROOM:
        _make_room(all_settings, state, pool, a)
    elif what == SQUEEZE:
        _squeeze(all_settings, state, pool, a)
    elif what == MOVE_QUEUE:
        _move_queue(all_settings, state, pool, a, b, now)
    elif what == GIVE_UP:
        _give_up(all_settings, state, pool, a, b, now)
    elif what == ROUSE:
        for e in range(pool.engines.size):
            wake(state, pool, np.int64(e), now)
    return np.int64(0)
