"""Who has a place: requests wait, get one, decode, lose it, finish.

The requests that decode are not touched in a step. Their contexts all grow by one, so a request stores its `origin`:
context = decoded - origin, output produced = decoded - origin - prompt + 1. It leaves this set only when the decode
count reaches its key in DUE, or when it loses its place. Its rank is brought up to date only when ranks are read.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.heaps import heap_add, heap_move, heap_remove, push
from replay.simulation.memory import cached_prefix, register, release
from replay.simulation.notes import BOUNDARY, ENDED, FIRST_TOKEN, PREEMPTED, note
from replay.simulation.queues import await_turn, join
from replay.simulation.state import BEND, DECODING, DUE, FINISHED, LAST, NEVER, NONE, WAITING


@compiled
def enqueue(settings, state, i, r, now):
    """Put a request among those that wait at instance `i`, where its progress so far ranks it."""
    q = state.requests[r]
    q.status = WAITING
    q.instance = i
    if q.start == NONE and settings.prompt_work > 0:
        shared, _unused, _own = cached_prefix(settings, state, i, r, np.int64(q.prompt))
        q.work = np.int64(settings.prompt_work * (q.prompt - shared * settings.hash_tokens))
    _pass_boundaries(state, r, np.int64(q.produced))
    await_turn(settings, state, r, now)
    join(settings, state, i, r)


@compiled
def end(settings, state, r, now):
    """Close a request (its status tells how), and let the turns that waited for it arrive after their think time."""
    world = state.world[0]
    state.requests[r].finish = now
    state.done[world.done] = r
    note(settings, state, r, now, ENDED, np.int64(state.requests[r].status), 0)
    world.done += 1
    turn = np.int64(state.requests[r].first_child)
    while turn != NONE:
        q = state.requests[turn]
        q.arrival = now + min(q.think, NEVER - 1 - now)
        q.order = q.arrival
        world.released = push(state.requests, world.released, turn)
        turn = np.int64(q.next_child)


@compiled
def _produced(state, r):
    """Output tokens of a decoding request."""
    q = state.requests[r]
    return state.instances[q.instance].decoded - q.origin - q.prompt + 1


@compiled
def _next_bend(state, q, served):
    """Output tokens at which a request's rank, or its hold on its place, changes next; its last where neither does."""
    bend = np.int64(q.output)
    if q.level < state.boundaries.size:
        bend = min(bend, np.int64(state.boundaries[q.level]))
    if served < q.hold_at:
        bend = min(bend, np.int64(q.hold_at))
    if served < q.guard:
        bend = min(bend, np.int64(q.guard))
    return bend


@compiled
def _set_keys(settings, state, r):
    """When the decode count next matters to `r` (its end, a bend), and where it ranks.

    What all running ranks have in common, a slope times the decode count, is left out, so the order stays as it is.
    """
    q = state.requests[r]
    served = _produced(state, r)
    bend, empty = _next_bend(state, q, served), q.origin + q.prompt - 1
    state.key[BEND, r] = empty + bend
    state.key[DUE, r] = empty + (bend if r == settings.watch else q.output)
    rank = q.rank + state.offsets[q.curve, q.level] + settings.slope * (1 - q.origin - q.prompt)
    rank += settings.context_cost * q.origin
    if settings.latest == 1:
        state.key[LAST, r] = -q.started
    else:
        state.key[LAST, r] = np.inf if served >= q.hold_at or served < q.guard else -rank


@compiled
def _bends(state, r):
    """Whether a decoding request will come to a bend before its end."""
    q = state.requests[r]
    return state.key[BEND, r] < q.origin + q.prompt - 1 + q.output


@compiled
def _leave_bends(state, i, r):
    if state.slot[BEND, r] != NONE:
        heap_remove(state.heap[i, BEND], state.key[BEND], state.slot[BEND], r, state.instances[i].bends, 0)
        state.instances[i].bends -= 1
        state.slot[BEND, r] = NONE


@called
def rank_anew(settings, state, i, r):
    """Bring the keys of a decoding request up to date."""
    decodes = state.instances[i].decodes
    _pass_boundaries(state, r, _produced(state, r))
    _set_keys(settings, state, r)
    heap_move(state.heap[i, LAST], state.key[LAST], state.slot[LAST], r, decodes, 1)
    if r == settings.watch:
        heap_move(state.heap[i, DUE], state.key[DUE], state.slot[DUE], r, decodes, 0)
    if not _bends(state, r):
        _leave_bends(state, i, r)
    elif state.slot[BEND, r] != NONE:
        heap_move(state.heap[i, BEND], state.key[BEND], state.slot[BEND], r, state.instances[i].bends, 0)


@compiled
def catch_up(settings, state, i):
    """Take the bends that what decodes at instance `i` has come to, so that its ranks can be read."""
    me = state.instances[i]
    while me.bends > 0 and state.key[BEND, state.heap[i, BEND, 0]] <= me.decoded:
        rank_anew(settings, state, i, state.heap[i, BEND, 0])


@compiled
def _pass_boundaries(state, r, served):
    q = state.requests[r]
    work = max(served, np.int64(q.work))
    while q.level < state.boundaries.size and work >= state.boundaries[q.level]:
        q.level += 1


@called
def _guard(settings, state, r):
    """Output tokens up to which a request that starts to decode keeps its place."""
    q = state.requests[r]
    if settings.min_run == 1:
        q.guard = q.output
        if q.level < state.boundaries.size:
            q.guard = min(np.int64(q.output), np.int64(state.boundaries[q.level]))
    if settings.hold_tokens > 0 and state.turns[r].turned == 1:
        q.guard = max(np.int64(q.guard), q.produced + settings.hold_tokens)


@called
def _start_decoding(settings, state, i, r):
    q, me = state.requests[r], state.instances[i]
    q.status = DECODING
    q.origin = me.decoded - (q.prompt + q.produced - 1)
    q.started = me.decoded
    _pass_boundaries(state, r, np.int64(q.produced))
    _guard(settings, state, r)
    _set_keys(settings, state, r)
    heap_add(state.heap[i, DUE], state.key[DUE], state.slot[DUE], r, me.decodes, 0)
    heap_add(state.heap[i, LAST], state.key[LAST], state.slot[LAST], r, me.decodes, 1)
    state.slot[BEND, r] = NONE
    if _bends(state, r):
        heap_add(state.heap[i, BEND], state.key[BEND], state.slot[BEND], r, me.bends, 0)
        me.bends += 1
    state.residue[i, q.origin % settings.block_tokens] += 1
    me.decodes += 1
    me.origins += q.origin
    lane = state.lanes[i * settings.lanes + q.lane]
    lane.decodes += 1
    lane.started += q.started


@compiled
def _stop_decoding(settings, state, i, r):
    q, me = state.requests[r], state.instances[i]
    q.produced = _produced(state, r)
    heap_remove(state.heap[i, DUE], state.key[DUE], state.slot[DUE], r, me.decodes, 0)
    heap_remove(state.heap[i, LAST], state.key[LAST], state.slot[LAST], r, me.decodes, 1)
    _leave_bends(state, i, r)
    state.residue[i, q.origin % settings.block_tokens] -= 1
    me.decodes -= 1
    me.origins -= q.origin
    lane = state.lanes[i * settings.lanes + q.lane]
    lane.decodes -= 1
    lane.started -= q.started
    lane.served += settings.output_weight * (me.decoded - q.started)


@called
def _finish(settings, state, i, r):
    q = state.requests[r]
    context = np.int64(q.prompt + q.produced - 1)  # the last token is never read
    register(settings, state, r, context)
    release(settings, state, r, context)
    state.instances[i].running -= 1
    q.status = FINISHED
    end(settings, state, r, state.instances[i].clock + 0)


@called
def preempt(settings, state, i, r, by):
    """Take a request's place and memory, for request `by` or to make room. What it had computed moves to the host, or
    is computed again later, unless the cache still has it.
    """
    q, me, world = state.requests[r], state.instances[i], state.world[0]
    if me.partial == r:
        me.partial = NONE
        context = np.int64(q.computed)
        release(settings, state, r, context)
    else:
        context = me.decoded - q.origin
        _stop_decoding(settings, state, i, r)
        release(settings, state, r, context + me.granted)
    q.computed = context if settings.swap_token > 0 else 0
    me.moved += q.computed
    q.preemptions += 1
    q.left = me.clock
    me.running -= 1
    row = state.event[world.events]
    row[0], row[1], row[2], row[3], row[4] = me.clock, i, r, context, by
    world.events += 1
    note(settings, state, r, me.clock, PREEMPTED, context, by)
    enqueue(settings, state, i, r, me.clock)


@compiled
def last_rank(settings, state, i):
    """The rank of whoever loses its place first of all that decode; minus infinity where nothing does, or none may."""
    if state.instances[i].decodes == 0:
        return -np.inf
    catch_up(settings, state, i)
    return settings.victim_slope * state.instances[i].decoded - state.key[LAST, state.heap[i, LAST, 0]]


@compiled
def victim(settings, state, i):
    """The running request that loses its place first."""
    catch_up(settings, state, i)
    partial, last = state.instances[i].partial, state.heap[i, LAST, 0]
    if state.instances[i].decodes == 0 or (settings.latest == 1 and partial != NONE):
        return partial
    if partial == NONE:
        return last
    q = state.requests[partial]
    there, here = q.order - settings.context_cost * q.computed, last_rank(settings, state, i)
    return partial if there > here or (there == here and partial > last) else last


@compiled
def first_tokens(settings, state, i, complete):
    """The first `complete` requests of `fresh` have ended their prefill: each has one more token and decodes on."""
    for position in range(complete):
        r = state.fresh[position]
        q = state.requests[r]
        q.produced += 1
        state.lanes[i * settings.lanes + q.lane].served += settings.output_weight
        if q.first == NONE:
            q.first = state.instances[i].clock
            note(settings, state, r, q.first, FIRST_TOKEN, 0, 0)
        if q.produced == q.output:
            _finish(settings, state, i, r)
        else:
            _start_decoding(settings, state, i, r)


@called
def reach_due(settings, state, i):
    """Finish what is finished, and note it when the watched request comes to a bend."""
    me = state.instances[i]
    while me.decodes > 0 and state.key[DUE, state.heap[i, DUE, 0]] <= me.decoded:
        r = state.heap[i, DUE, 0]
        served = _produced(state, r)
        if served >= state.requests[r].output:
            _stop_decoding(settings, state, i, r)
            _finish(settings, state, i, r)
            continue
        rank_anew(settings, state, i, r)
        note(settings, state, r, me.clock, BOUNDARY, served, np.int64(state.requests[r].level))
