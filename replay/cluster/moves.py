"""The clock of a cluster: which engine steps next, who arrives, and when a placement has to decide.

Engines are independent of those that share no GPU with them, so one steps ahead until something can happen beside it:
a request arrives for an engine there, a model is asked for that is nowhere, the controller wants to look.
"""

import numpy as np

from replay.cluster.arbitration import ask_together, asks_together, take_answer_together
from replay.cluster.pages import foresee, serves, settle, show
from replay.cluster.sharing import neighbours_running, next_beside, set_bar
from replay.cluster.state import EMPTIED, MISSED, STUCK, latency_of
from replay.simulation.compiled import called, compiled, entry
from replay.simulation.core import next_arrival, why_not
from replay.simulation.heaps import heap_add, heap_move, heap_remove, pop
from replay.simulation.notes import ARRIVED, note
from replay.simulation.places import end, enqueue
from replay.simulation.queues import next_turn, take_turns
from replay.simulation.state import ASKS, ENDED, MORE, NEVER, NONE, PAUSED, PS, REJECTED
from replay.simulation.steps import step
from toolkit.placing import ABSENT, LEAVING


@compiled
def has_work(state, e):
    return state.instances[e].running + state.instances[e].waiting > 0


@compiled
def wake(state, pool, e, now):
    """Let an engine that has work step, from `now` on."""
    it, me, cluster = pool.engines[e], state.instances[e], pool.cluster[0]
    it.blocked = 0
    if it.awake == 1 or not serves(pool, e) or not has_work(state, e):
        return
    me.clock = max(me.clock, now)
    pool.clock[e] = me.clock
    it.awake = 1
    heap_add(pool.awake, pool.clock, pool.slot, e, cluster.awake, 0)
    cluster.awake += 1


@compiled
def sleep(pool, e):
    """Take an engine out of those that step."""
    it, cluster = pool.engines[e], pool.cluster[0]
    if it.awake == 1:
        heap_remove(pool.awake, pool.clock, pool.slot, e, cluster.awake, 0)
        cluster.awake -= 1
        it.awake = 0


@compiled
def wake_beside(state, pool, e, now):
    """Let engines that wait for others on `e`'s GPUs try again."""
    for position in range(pool.engines[e].width):
        g = pool.places[e, position]
        for other in range(pool.gpus[g].engines):
            o = pool.hosted[g, other]
            if pool.engines[o].blocked == 1 and o != e:
                wake(state, pool, o, now)


@called
def _arrive(all_settings, state, pool, r):
    """Let `r` arrive at the engine of its model. True when that model is nowhere."""
    world, q = state.world[0], state.requests[r]
    m = np.int64(pool.model_of[r])
    model, settings = pool.models[m], all_settings[m]
    if r == world.released:
        world.released = pop(state.requests, world.released)
    else:
        world.next_open += 1
        model.next += 1
    q.rank += q.rank_rise * (q.arrival / PS)
    now = np.int64(q.arrival)
    q.reason = why_not(settings, q)
    model.arrived += 1
    if q.reason != 0:
        q.status = REJECTED
        end(settings, state, r, now)
        return False
    e = np.int64(model.engine)
    model.active = now
    note(settings, state, r, now, ARRIVED, e, 0)
    enqueue(settings, state, e, r, now)
    wake(state, pool, e, now)
    if pool.engines[e].status == ABSENT:
        pool.cluster[0].about = m
        pool.cluster[0].when = now
        pool.cluster[0].starving = 1
        return True
    return False


@called
def _sample(settings, state, pool, e):
    me, it, world = state.instances[e], pool.engines[e], state.world[0]
    me.next_sample = (me.clock // settings.sample_every + 1) * settings.sample_every
    row = state.sample[world.samples]
    row[0], row[1], row[2], row[3] = me.clock, it.stay, me.waiting, me.running
    row[4], row[5], row[6], row[7], row[8] = it.held, me.last_batch, me.last_step, it.pages, it.granted
    world.samples += 1


@compiled
def _following(pool):
    """The second smallest clock of the engines that have work."""
    count = pool.cluster[0].awake
    soonest = np.int64(NEVER)
    for slot in range(1, min(count, 3)):
        soonest = min(soonest, pool.clock[pool.awake[slot]])
    return soonest


@compiled
def _until(settings, state, pool, e, bound):
    """When an engine has to look up: `bound`, its sample, something beside it, somebody's patience."""
    me = state.instances[e]
    until = min(bound, me.next_sample, next_turn(state), max(next_beside(state, pool, e), me.clock + 1))
    if settings.closed == 1:  # a turn that another engine releases may come here or beside, never before its own clock
        until = min(until, max(_following(pool), me.clock + 1))
        if state.world[0].released != NONE:
            until = min(until, state.requests[state.world[0].released].arrival)
    return until


@compiled
def _act(all_settings, tables, state, pool, e, bound):
    """Let an engine take its next step, or several alike. False when it can do nothing until others have."""
    it, me = pool.engines[e], state.instances[e]
    settings = all_settings[it.model]
    steps, running = me.steps + 0, me.running + 0
    set_bar(all_settings, state, pool, e)
    show(state, pool, e)
    foresee(state, pool, e)
    until = _until(settings, state, pool, e, bound)
    others = neighbours_running(state, pool, e)
    me.contention = others * pool.cluster[0].contention
    if me.contention > 0:
        until = me.clock + 1  # who runs beside it may change with each of their steps
    if me.clock >= me.next_sample:
        _sample(settings, state, pool, e)
    step(settings, latency_of(tables, it.table), state, e, until)
    settle(all_settings, state, pool, e)
    me.clock += max(me.pages - it.pages, np.int64(0)) * me.unmap_page
    return me.steps > steps or me.running != running


@compiled
def _after(all_settings, state, pool, e):
    """Put an engine that has stepped where it belongs, and wake those that waited for it."""
    it, me, cluster = pool.engines[e], state.instances[e], pool.cluster[0]
    pool.clock[e] = me.clock
    pool.models[it.model].active = max(pool.models[it.model].active, me.clock)
    if has_work(state, e):
        heap_move(pool.awake, pool.clock, pool.slot, e, cluster.awake, 0)
    else:
        sleep(pool, e)
        _sample(all_settings[it.model], state, pool, e)
        if cluster.starving == 1 or it.status == LEAVING:
            cluster.notice = min(cluster.notice, me.clock)
    wake_beside(state, pool, e, me.clock + 0)


@compiled
def _any_awake_beside(pool, e):
    for position in range(pool.engines[e].width):
        g = pool.places[e, position]
        for other in range(pool.gpus[g].engines):
            o = pool.hosted[g, other]
            if o != e and pool.engines[o].awake == 1:
                return True
    return False


@compiled
def _miss_time(state, pool):
    """When a request next arrives, by the trace's clock, for a model that is nowhere."""
    soonest = np.int64(NEVER)
    for m in range(pool.models.size):
        model = pool.models[m]
        if model.next < model.last and pool.engines[model.engine].status == ABSENT:
            soonest = min(soonest, state.requests[pool.arrivals[model.next]].arrival)
    return soonest


@compiled
def _full(settings, state):
    world = state.world[0]
    return (
        world.samples + 2 >= state.sample.shape[0] or world.events + 2 * settings.max_num_seqs >= state.event.shape[0]
    )


@entry
def advance(all_settings, tables, state, pool, pause, most):
    """Make up to `most` moves, none that begins at `pause` or later.

    Returns why it stopped: as simulation.core.advance, or MISSED, EMPTIED, STUCK for the placement to decide.
    """
    cluster, settings = pool.cluster[0], all_settings[0]
    if state.world[0].asking != NONE:
        take_answer_together(state, pool)
    missing = _miss_time(state, pool)
    for _ in range(most):
        if _full(settings, state):
            return MORE
        bound = min(pause, cluster.notice)
        r = next_arrival(state)
        arrival = state.requests[r].arrival + 0 if r != NONE else np.int64(NEVER)
        clock = pool.clock[pool.awake[0]] if cluster.awake > 0 else np.int64(NEVER)
        if min(clock, arrival) >= bound:
            if min(clock, arrival) == NEVER and bound == NEVER:
                return ENDED
            return EMPTIED if cluster.notice <= pause else PAUSED
        if clock >= arrival:
            if _arrive(all_settings, state, pool, r):
                return MISSED
            continue
        e = pool.awake[0]
        take_turns(settings, state, clock)
        if settings.ordered == 1 and asks_together(all_settings, state, pool, e):
            ask_together(settings, state, pool, e)
            return ASKS
        if _act(all_settings, tables, state, pool, e, min(bound, missing)):
            _after(all_settings, state, pool, e)
            continue
        sleep(pool, e)
        pool.engines[e].blocked = 1
        if not _any_awake_beside(pool, e):
            cluster.about = e
            cluster.when = clock
            return STUCK
    return MORE
