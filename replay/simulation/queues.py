"""Who waits, and who of them is next.

An instance has one queue or several lanes, in each of which ranks decide. Of several lanes the one whose turn it is in
a cycle is next (weighted round robin), or the one that has had the least service: VTC, "Fairness in Serving Large
Language Models" (Sheng et al., OSDI 2024), algorithm 2. A lane's service counts the tokens of what decodes in closed
form, so no step touches it.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.heaps import heap_add, heap_remove, push, remove
from replay.simulation.notes import TURNED, note
from replay.simulation.state import NEVER, NONE


@compiled
def waiting_rank(settings, state, r):
    """Where a request that does not decode stands."""
    q = state.requests[r]
    rank = q.rank + settings.slope * q.produced + state.offsets[q.curve, q.level]
    if state.turns.size > 0 and state.turns[r].turned == 1:
        rank += state.turns[r].shift
    return rank


@compiled
def _lane_of(settings, state, i, r):
    return state.lanes[i * settings.lanes + state.requests[r].lane]


@compiled
def served(settings, state, i, lane):
    """Weighted tokens of service that a lane has had."""
    it = state.lanes[i * settings.lanes + lane]
    return it.served + settings.output_weight * (it.decodes * state.instances[i].decoded - it.started)


@compiled
def _least_served(settings, state, i):
    best, least = np.int64(NONE), np.inf
    for place in range(state.instances[i].lanes):
        lane = state.busy[i, place]
        had = served(settings, state, i, lane)
        if had < least or (had == least and lane < best):
            best, least = lane, had
    return best


@called
def stays_next(settings, state, i, most):
    """How many of `most` decode steps the lane that is next stays so; fewer where rounding might tell otherwise."""
    me = state.instances[i]
    if me.lanes < 2 or state.cycle.size > 0:
        return most
    first = _least_served(settings, state, i)
    had, decodes = served(settings, state, i, first), state.lanes[i * settings.lanes + first].decodes
    for place in range(me.lanes):
        lane = state.busy[i, place]
        catches_up = settings.output_weight * (decodes - state.lanes[i * settings.lanes + lane].decodes)
        ahead = served(settings, state, i, lane) - had
        if catches_up * most > ahead:
            most = max(np.int64(1), np.int64(ahead / catches_up) - 1)
    return most


@compiled
def _turn_of(settings, state, i):
    """Where in the cycle the next lane with anybody in it stands; NONE where there is none."""
    me, size = state.instances[i], state.cycle.size
    for step in range(size):
        place = (me.pointer + step) % size
        if state.lanes[i * settings.lanes + state.cycle[place]].waiting > 0:
            return place
    return np.int64(NONE)


@compiled
def head(settings, state, i):
    """The waiting request that is next; NONE where nobody waits."""
    if settings.lanes == 1:
        return state.lanes[i].root + 0
    if state.instances[i].waiting == 0:
        return np.int64(NONE)
    lane = _least_served(settings, state, i) if state.cycle.size == 0 else state.cycle[_turn_of(settings, state, i)]
    return state.lanes[i * settings.lanes + lane].root + 0


@compiled
def _lift(settings, state, i, lane):
    """A lane that nobody waited in has no claim from before: level it with the least served of the others."""
    me, it = state.instances[i], state.lanes[i * settings.lanes + lane]
    other = _least_served(settings, state, i) if me.waiting > 0 else me.last_lane + 0
    if other != NONE:
        it.served += max(0.0, served(settings, state, i, other) - served(settings, state, i, lane))


@compiled
def join(settings, state, i, r):
    """Put a request into its queue at instance `i`."""
    q, me, it = state.requests[r], state.instances[i], _lane_of(settings, state, i, r)
    if it.waiting == 0 and settings.lanes > 1:
        if q.start == NONE:
            _lift(settings, state, i, np.int64(q.lane))
        state.busy[i, me.lanes] = q.lane
        it.place = me.lanes
        me.lanes += 1
    q.order = waiting_rank(settings, state, r)
    it.root = push(state.requests, it.root, r)
    it.waiting += 1
    me.waiting += 1
    me.stale = 1


@compiled
def leave(settings, state, i, r):
    """Take a request out of its queue at instance `i`: it is served."""
    q, me, it = state.requests[r], state.instances[i], _lane_of(settings, state, i, r)
    if state.cycle.size > 0:
        me.pointer = (_turn_of(settings, state, i) + 1) % state.cycle.size
    it.root = remove(state.requests, it.root, r)
    it.waiting -= 1
    me.waiting -= 1
    if settings.lanes == 1:
        return
    me.last_lane = q.lane
    if q.start == NONE:
        it.served += settings.prompt_weight * q.prompt
    if it.waiting == 0:
        me.lanes -= 1
        last = state.busy[i, me.lanes]
        state.busy[i, it.place] = last
        state.lanes[i * settings.lanes + last].place = it.place


@compiled
def await_turn(settings, state, r, now):
    """Let a waiting request's rank change once its patience has ended, if it has not and ever will."""
    if state.turns.size == 0:
        return
    turn, world = state.turns[r], state.world[0]
    if settings.since_place == 1:
        turn.turned = 0
        turn.due = now + min(turn.after, NEVER - now)
    elif turn.turned == 0 and turn.after != NEVER:
        turn.due = state.requests[r].arrival + min(turn.after, NEVER - state.requests[r].arrival)
    if turn.turned == 0 and turn.due != NEVER:
        state.turn_key[r] = turn.due
        heap_add(state.turn_heap, state.turn_key, state.turn_slot, r, world.turns, 0)
        world.turns += 1


@called
def forget_turn(state, r):
    """A request that waits no longer has no patience to lose. True when its rank had changed."""
    if state.turns.size == 0:
        return False
    turn, world = state.turns[r], state.world[0]
    if turn.turned == 0 and turn.due != NEVER:
        heap_remove(state.turn_heap, state.turn_key, state.turn_slot, r, world.turns, 0)
        world.turns -= 1
    return turn.turned == 1


@compiled
def next_turn(state):
    """When the next rank changes."""
    if state.world[0].turns == 0:
        return np.int64(NEVER)
    return state.turns[state.turn_heap[0]].due + 0


@called
def take_turns(settings, state, now):
    """Change the ranks of those whose patience has ended by now."""
    world = state.world[0]
    while next_turn(state) <= now:
        r = state.turn_heap[0]
        heap_remove(state.turn_heap, state.turn_key, state.turn_slot, r, world.turns, 0)
        world.turns -= 1
        state.turns[r].turned = 1
        note(settings, state, r, now, TURNED, 0, 0)
        i = np.int64(state.requests[r].instance)
        it = _lane_of(settings, state, i, r)
        it.root = remove(state.requests, it.root, r)
        state.requests[r].order = waiting_rank(settings, state, r)
        it.root = push(state.requests, it.root, r)
        state.instances[i].stale = 1
