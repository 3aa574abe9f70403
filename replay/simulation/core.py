"""The clock of the whole replay: which instance steps next, who arrives, where a request goes."""

import numpy as np

from replay.simulation.compiled import called, compiled, entry
from replay.simulation.heaps import pop
from replay.simulation.memory import blocks_of, cached_prefix
from replay.simulation.notes import ARRIVED, note
from replay.simulation.places import end, enqueue
from replay.simulation.queues import next_turn, take_turns
from replay.simulation.reorder import ask, take_answer
from replay.simulation.state import (
    ASKS,
    ENDED,
    LEAST_LOADED,
    MORE,
    NEVER,
    NONE,
    PAUSED,
    PREFIX_AWARE,
    PS,
    REJECTED,
    TOO_LONG_FOR_MEMORY,
    TOO_LONG_FOR_MODEL,
    VLLM_DP,
)
from replay.simulation.steps import step


@compiled
def next_arrival(state):
    """The request that arrives next: by the trace's clock, or a turn whose parent has ended. NONE when all have."""
    world, requests = state.world[0], state.requests
    while world.next_open < requests.size and requests[world.next_open].think >= 0:
        world.next_open += 1
    if world.next_open == requests.size:
        return world.released
    if world.released == NONE:
        return world.next_open
    a, b = requests[world.next_open].arrival, requests[world.released].arrival
    return min(world.next_open, world.released) if a == b else world.next_open if a < b else world.released


@compiled
def load(state, i):
    return state.instances[i].running + state.instances[i].waiting


@compiled
def _least_loaded(state):
    best = 0
    for i in range(1, state.instances.size):
        if load(state, i) < load(state, best):
            best = i
    return best


@compiled
def _least_asked(state):
    """As vLLM's front end of data-parallel engines: least running, with what waits counted four times."""
    best, least = 0, np.int64(NEVER)
    for i in range(state.instances.size):
        asked = 4 * state.instances[i].waiting + state.instances[i].running
        if asked < least:
            best, least = i, asked
    return best


@called
def _longest_prefix(settings, state, r):
    """The instance that holds most of the prompt; the least loaded of those that hold as much."""
    best, most = 0, -1
    for i in range(state.instances.size):
        held = cached_prefix(settings, state, i, r, np.int64(state.requests[r].prompt))[0]
        if held > most or (held == most and load(state, i) < load(state, best)):
            best, most = i, held
    return best


@compiled
def _route(settings, state, r):
    world = state.world[0]
    if settings.routing == LEAST_LOADED:
        return _least_loaded(state)
    if settings.routing == PREFIX_AWARE:
        return _longest_prefix(settings, state, r)
    if settings.routing == VLLM_DP:
        return _least_asked(state)
    world.next_instance += 1
    return (world.next_instance - 1) % state.instances.size


@compiled
def why_not(settings, q):
    """Why a request can never run here; 0 when it can."""
    if q.reason != 0:
        return q.reason + 0
    if q.prompt + q.output > settings.max_model_len:
        return TOO_LONG_FOR_MODEL
    if blocks_of(settings, np.int64(q.prompt + q.output - 1)) + settings.watermark_blocks > settings.blocks:
        return TOO_LONG_FOR_MEMORY
    return 0


@called
def arrive(settings, state, r):
    world, q = state.world[0], state.requests[r]
    if r == world.released:
        world.released = pop(state.requests, world.released)
    else:
        world.next_open += 1
    q.rank += q.rank_rise * (q.arrival / PS)
    q.reason = why_not(settings, q)
    if q.reason != 0:
        q.status = REJECTED
        end(settings, state, r, np.int64(q.arrival))
        return
    i = _route(settings, state, r)
    if load(state, i) == 0:
        state.instances[i].clock = max(state.instances[i].clock, q.arrival)
    note(settings, state, r, np.int64(q.arrival), ARRIVED, i, 0)
    enqueue(settings, state, i, r, np.int64(q.arrival))


@compiled
def plans_at(me):
    """When an instance plans its next step."""
    return me.clock + 0 if me.begun == NONE else me.begun + 0


@compiled
def _earliest(state):
    """(The instance with work that is the first to plan a step, when, when the next one does)."""
    first, plans, following = NONE, NEVER, NEVER
    for i in range(state.instances.size):
        if load(state, i) > 0:
            at = plans_at(state.instances[i])
            if at < plans:
                first, plans, following = i, at, plans
            elif at < following:
                following = at
    return first, plans, following


@compiled
def sample(settings, state, i):
    """Record instance `i` for the timeline when its clock has come to the next sampling time."""
    me, world = state.instances[i], state.world[0]
    if me.clock < me.next_sample:
        return
    me.next_sample = (me.clock // settings.sample_every + 1) * settings.sample_every
    row = state.sample[world.samples]
    row[0], row[1], row[2], row[3] = me.clock, i, me.waiting, me.running
    row[4], row[5], row[6] = settings.blocks - me.free, me.last_batch, me.last_step
    world.samples += 1


@compiled
def asks(settings, state, i):
    """Whether an instance could admit somebody from a queue of several that has changed since it was ordered."""
    me = state.instances[i]
    return me.stale == 1 and me.waiting > 1 and me.running < settings.max_num_seqs


@compiled
def full(settings, state, together):
    """Whether a buffer might not hold what one move of `together` instances leaves."""
    world = state.world[0]
    if world.samples + together > state.sample.shape[0]:
        return True
    if world.events + 2 * settings.max_num_seqs * together >= state.event.shape[0]:
        return True
    return settings.watch != NONE and world.notes + 2 * settings.max_num_seqs >= state.note.shape[0]


@entry
def advance(settings, latency, state, pause, most):
    """Make up to `most` moves (an arrival, or the steps up to the next decision), none that begins at `pause` or later.

    Returns why it stopped: ENDED, PAUSED, ASKS, or MORE, also when a buffer is nearly full; the caller empties them.
    """
    world = state.world[0]
    if world.asking != NONE:
        take_answer(state)
    for _ in range(most):
        if full(settings, state, 1):
            return MORE
        r = next_arrival(state)
        arrival = state.requests[r].arrival if r != NONE else NEVER
        i, plans, following = _earliest(state)
        if i == NONE or plans >= arrival:
            if r == NONE:
                return ENDED
            if arrival >= pause:
                return PAUSED
            arrive(settings, state, r)
            continue
        if plans >= pause:
            return PAUSED
        take_turns(settings, state, plans)
        if settings.ordered == 1 and asks(settings, state, i):
            ask(settings, state, i)
            return ASKS
        sample(settings, state, i)
        until = min(arrival, state.instances[i].next_sample, pause, next_turn(state))
        # A turn released by another instance may come here, but none releases one before its own clock.
        if settings.closed == 1:
            until = min(until, max(following, state.instances[i].clock + 1))
        step(settings, latency, state, i, until)
    return MORE
