"""Instances that step together: data parallelism with expert parallelism.

All take as long as the slowest of them, then compute and exchange their shared part, the experts, together. Steps are
taken one at a time.
"""

import numpy as np

from replay.simulation.compiled import compiled, entry
from replay.simulation.core import arrive, asks, full, load, next_arrival, plans_at, sample
from replay.simulation.latency import shared_time
from replay.simulation.queues import take_turns
from replay.simulation.reorder import ask, take_answer
from replay.simulation.state import ASKS, ENDED, MORE, NEVER, NONE, PAUSED
from replay.simulation.steps import active, batch_time, choose_batch, end_steps, let_go


@compiled
def _plan(settings, latency, state, i):
    """Choose the next batch of instance `i`; returns (its tokens, how long it computes by itself)."""
    me = state.instances[i]
    _evicted, tokens, priors, attention, complete = choose_batch(settings, latency, state, i)
    let_go(me)
    state.batches[i, 0], state.batches[i, 1] = tokens, complete
    for position in range(complete):
        state.batches[i, 2 + position] = state.fresh[position]
    if tokens + active(me) == 0:
        return np.int64(0), np.int64(0)
    return tokens + active(me), batch_time(settings, latency, state, i, tokens, priors, attention, complete)


@compiled
def _end(settings, state, i, time):
    """End the step of instance `i`, which all have taken `time` for."""
    me, complete = state.instances[i], state.batches[i, 1]
    begun = me.clock + 0
    me.clock += time
    me.last_step = time
    me.begun = begun if settings.ahead == 1 else NONE
    if state.batches[i, 0] + active(me) == 0:
        me.last_batch = 0
        return
    for position in range(complete):
        state.fresh[position] = state.batches[i, 2 + position]
    end_steps(settings, state, i, 1, state.batches[i, 0], complete, time)


@compiled
def _step(settings, latency, state):
    """Take one step of all instances; none when nothing can run."""
    slowest, tokens = np.int64(0), np.int64(0)
    for i in range(state.instances.size):
        batch, time = _plan(settings, latency, state, i)
        tokens += batch
        slowest = max(slowest, time)
    if tokens == 0:
        for i in range(state.instances.size):
            state.instances[i].begun = NONE
        return
    time = slowest + shared_time(latency, tokens)
    for i in range(state.instances.size):
        _end(settings, state, i, time)


@compiled
def _busy(state):
    """Requests that wait or run anywhere."""
    requests = np.int64(0)
    for i in range(state.instances.size):
        requests += load(state, i)
    return requests


@compiled
def _asking(settings, state):
    """The instance whose queue is to be ordered first; NONE where none is."""
    if settings.ordered == 1:
        for i in range(state.instances.size):
            if asks(settings, state, i):
                return i
    return NONE


@compiled
def _let_in(settings, state, r):
    """Let a request arrive; all instances come to that moment where they had nothing to do."""
    if _busy(state) == 0:
        for i in range(state.instances.size):
            state.instances[i].clock = max(state.instances[i].clock, state.requests[r].arrival)
    arrive(settings, state, r)


@entry
def advance_together(settings, latency, state, pause, most):
    """As core.advance, for instances in lockstep: a move is an arrival, or one step of all of them."""
    if state.world[0].asking != NONE:
        take_answer(state)
    for _ in range(most):
        if full(settings, state, state.instances.size):
            return MORE
        r = next_arrival(state)
        arrival, plans = state.requests[r].arrival if r != NONE else NEVER, plans_at(state.instances[0])
        if _busy(state) == 0 or plans >= arrival:
            if r == NONE:
                return ENDED
            if arrival >= pause:
                return PAUSED
            _let_in(settings, state, r)
            continue
        if plans >= pause:
            return PAUSED
        take_turns(settings, state, plans)
        i = _asking(settings, state)
        if i != NONE:
            ask(settings, state, i)
            return ASKS
        for i in range(state.instances.size):
            sample(settings, state, i)
        _step(settings, latency, state)
    return MORE
