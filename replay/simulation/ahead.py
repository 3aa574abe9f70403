"""Engines that plan one step ahead, and engines that step together: vLLM's async scheduling and data parallelism.

With async scheduling the next step is planned while the one before still runs. So what arrives during a step waits for
one step more, and what a finished request held is free one step later. Instances in lockstep (data parallelism with
expert parallelism) all take as long as the slowest of them, then compute and exchange their shared part together.
Steps are taken one at a time.
"""

from typing import NamedTuple

import numpy as np

from replay.simulation.compiled import compiled, entry
from replay.simulation.core import arrive, next_arrival
from replay.simulation.latency import shared_time
from replay.simulation.places import first_tokens, reach_due
from replay.simulation.state import I64, NEVER, NONE
from replay.simulation.steps import batch_time, choose_batch


class Group(NamedTuple):
    """What instances that step together need beside the state."""

    clock: I64  # [now, when the last step began, 1 after a step, 1 when planning ahead]
    held: I64  # [instance, (blocks, places)]: of finished requests, until the next step is planned
    batch: I64  # [instance, (tokens, prefills that complete)]: the step at hand
    fresh: I64  # [instance, slot]: those prefills

    @classmethod
    def of(cls, instances: int, max_num_seqs: int, ahead: bool) -> "Group":
        """Nothing runs yet."""
        sizes = ((instances, 2), (instances, 2), (instances, max_num_seqs))
        return cls(np.array([0, 0, 0, ahead], np.int64), *[np.zeros(size, np.int64) for size in sizes])


@compiled
def _plan(settings, latency, state, group, i):
    """Choose the next batch of instance `i`; returns how long it computes by itself."""
    me = state.instances[i]
    _evicted, tokens, priors, attention, complete = choose_batch(settings, latency, state, i)
    group.batch[i, 0], group.batch[i, 1] = me.decodes + tokens, complete
    for position in range(complete):
        group.fresh[i, position] = state.fresh[position]
    if group.batch[i, 0] == 0:
        return np.int64(0)
    return batch_time(settings, latency, state, i, tokens, priors, attention, complete)


@compiled
def _free_held(state, group, i):
    """What the finished have left is free once the next step has been planned without it."""
    state.instances[i].free += group.held[i, 0]
    state.instances[i].running -= group.held[i, 1]
    group.held[i, 0] = group.held[i, 1] = 0


@compiled
def _end_step(settings, state, group, i, time):
    me = state.instances[i]
    me.clock += time
    me.last_batch, me.last_step = group.batch[i, 0], time
    if group.batch[i, 0] == 0:
        return
    me.busy += time
    me.steps += 1
    me.decoded += 1
    for position in range(group.batch[i, 1]):
        state.fresh[position] = group.fresh[i, position]
    free, running = np.int64(me.free), np.int64(me.running)
    first_tokens(settings, state, i, group.batch[i, 1])
    reach_due(settings, state, i)
    if group.clock[3] == 1:
        group.held[i, 0], group.held[i, 1] = me.free - free, running - me.running
        me.free, me.running = free, running


@compiled
def _least_asked(state):
    """Where vLLM's data-parallel front end sends a request: least running, with what waits counted four times."""
    best, least = 0, np.int64(NEVER)
    for i in range(state.instances.size):
        asked = 4 * state.instances[i].waiting + state.instances[i].running
        if asked < least:
            best, least = i, asked
    return best


@compiled
def _arrivals(settings, state, until):
    """Let in what has arrived `until` then; returns when the next request arrives."""
    r = next_arrival(state)
    while r != NONE and state.requests[r].arrival <= until:
        state.world[0].next_instance = _least_asked(state)
        arrive(settings, state, r)
        r = next_arrival(state)
    return state.requests[r].arrival if r != NONE else np.int64(NEVER)


@entry
def advance_together(settings, latency, state, group, most):
    """Take up to `most` steps of all instances together; False when nothing is left to do."""
    world = state.world[0]
    for _ in range(most):
        if world.events + 2 * settings.max_num_seqs * state.instances.size >= state.event.shape[0]:
            return True
        now, running = group.clock[0], group.clock[2] == 1
        following = _arrivals(settings, state, group.clock[1] if running and group.clock[3] == 1 else now)
        own, tokens = np.int64(0), np.int64(0)
        for i in range(state.instances.size):
            state.instances[i].clock = now
            own = max(own, _plan(settings, latency, state, group, i))
            tokens += group.batch[i, 0]
            _free_held(state, group, i)
        if tokens == 0:
            if not running and following == NEVER:
                return False
            group.clock[0] = now if running else max(now, following)
            group.clock[2] = 0
            continue
        time = own + shared_time(latency, tokens)
        for i in range(state.instances.size):
            _end_step(settings, state, group, i, time)
        group.clock[0], group.clock[1], group.clock[2] = now + time, now, 1
    return True
