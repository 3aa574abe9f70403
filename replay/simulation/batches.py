"""The clock of synchronous micro-batches: one batch at a time, and all of it ends when its longest request does.

An idle engine opens a batch when it sees a request (at once, or at its next poll), waits for more until the batch is
full or the wait is over, and takes the first in rank order that the memory holds to their ends. Prompts are packed into
prefill steps of the token budget, then all decode together; what has its last token leaves the decode count, but its
place is given to nobody. An instance's `granted` is 1 once its batch has done waiting.
"""

import numpy as np

from replay.simulation.compiled import compiled, entry
from replay.simulation.core import arrive, next_arrival
from replay.simulation.latency import decode_line, prefill_attention, shared_time, sum_of
from replay.simulation.memory import blocks_of
from replay.simulation.notes import FIRST_TOKEN, STARTED, note
from replay.simulation.places import end
from replay.simulation.queues import forget_turn, head, leave, take_turns
from replay.simulation.reorder import ask, take_answer
from replay.simulation.state import ASKS, ENDED, FINISHED, MORE, NEVER, NONE, PAUSED


@compiled
def _next_time(state):
    r = next_arrival(state)
    return np.int64(state.requests[r].arrival) if r != NONE else np.int64(NEVER)


@compiled
def _arrive_until(settings, state, most, time):
    """Let requests arrive up to `time` while fewer than `most` wait; returns when the last of them came."""
    last = np.int64(NONE)
    while state.instances[0].waiting < most and _next_time(state) <= time:
        last = _next_time(state)
        arrive(settings, state, next_arrival(state))
    return last


@compiled
def _open(settings, state, poll):
    """Come to the moment at which somebody waits. False when nobody ever will."""
    me = state.instances[0]
    while me.waiting == 0:
        free, time = me.clock + 0, _next_time(state)
        if time == NEVER:
            return False
        arrive(settings, state, next_arrival(state))
        if poll > 0 and time > free and me.waiting > 0:
            me.clock = free + (time - free + poll - 1) // poll * poll
    return True


@compiled
def _gather(settings, state, size, wait):
    """Wait until `size` requests are there, or for `wait`; who arrives at the very end is still seen."""
    me = state.instances[0]
    _arrive_until(settings, state, NEVER, me.clock)
    if me.waiting < size:
        last = _arrive_until(settings, state, size, me.clock + wait)
        me.clock = last if me.waiting >= size else me.clock + wait
        _arrive_until(settings, state, NEVER, me.clock)


@compiled
def _form(settings, state, size):
    """Take the first of the waiting into `fresh`; returns (how many, the blocks they fill in the end)."""
    me = state.instances[0]
    count, held = np.int64(0), np.int64(0)
    while count < size and me.waiting > 0:
        r = head(settings, state, 0)
        q = state.requests[r]
        blocks = blocks_of(settings, np.int64(q.prompt + q.output - 1))
        if held + blocks + settings.watermark_blocks > settings.blocks:
            break
        leave(settings, state, 0, r)
        turned = forget_turn(state, r)
        note(settings, state, r, me.clock + 0, STARTED, 0, np.int64(turned))
        q.start = me.clock
        state.fresh[count] = r
        held += blocks
        count += 1
    return count, held


@compiled
def _prefill(settings, latency, state, count):
    """Pack the prompts into steps, and note when each ends; returns (steps, when the last ends)."""
    time, steps = np.int64(state.instances[0].clock), np.int64(0)
    tokens, attention, ended, position = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    computed = np.int64(0)
    while position < count:
        prompt = np.int64(state.requests[state.fresh[position]].prompt)
        chunk = min(prompt - computed, settings.max_num_batched_tokens - tokens)
        attention += prefill_attention(latency, chunk, computed)
        tokens += chunk
        computed += chunk
        if computed == prompt:
            position += 1
            computed = np.int64(0)
        if tokens == settings.max_num_batched_tokens or position == count:
            time += latency.dense[tokens] + latency.head[position - ended] + attention + shared_time(latency, tokens)
            steps += 1
            for other in range(ended, position):
                state.requests[state.fresh[other]].first = time
                note(settings, state, state.fresh[other], time, FIRST_TOKEN, 0, 0)
            tokens, attention, ended = np.int64(0), np.int64(0), position
    return steps, time


@compiled
def _shortest_first(state, count):
    """Sort the batch by output tokens: the order in which its requests stop decoding."""
    for position in range(1, count):
        r, slot = state.fresh[position], position
        while slot > 0 and state.requests[state.fresh[slot - 1]].output > state.requests[r].output:
            state.fresh[slot] = state.fresh[slot - 1]
            slot -= 1
        state.fresh[slot] = r


@compiled
def _spread(state, position, count):
    """(Shortest, longest) prompt of what still decodes."""
    shortest = longest = np.int64(state.requests[state.fresh[position]].prompt)
    for other in range(position + 1, count):
        prompt = np.int64(state.requests[state.fresh[other]].prompt)
        shortest, longest = min(shortest, prompt), max(longest, prompt)
    return shortest, longest


@compiled
def _decode(latency, state, count, time):
    """Decode the sorted batch to the last token of its longest request; returns when that is."""
    kv, served = np.int64(0), np.int64(1)
    for position in range(count):
        kv += state.requests[state.fresh[position]].prompt + 1
    for position in range(count):
        q, active = state.requests[state.fresh[position]], count - position
        shortest, longest = _spread(state, position, count)
        while served < q.output:
            first, rise, alike = decode_line(latency, active, kv, shortest + served, longest + served)
            steps = min(q.output - served, alike)
            time += sum_of(first + shared_time(latency, active), rise, steps)
            kv += active * steps
            served += steps
        kv -= q.prompt + served
    return time


@compiled
def _record(state, count, held, tokens, time):
    world, me = state.world[0], state.instances[0]
    row = state.sample[world.samples]
    row[0], row[1], row[2], row[3] = me.clock, 0, me.waiting, count
    row[4], row[5], row[6] = held, tokens, time - me.clock
    world.samples += 1


@compiled
def _serve(settings, latency, state, count, held):
    me = state.instances[0]
    steps, prefilled = _prefill(settings, latency, state, count)
    _shortest_first(state, count)
    time = _decode(latency, state, count, prefilled)
    tokens = np.int64(0)
    for position in range(count):
        q = state.requests[state.fresh[position]]
        tokens += q.prompt
        state.lanes[q.lane].served += settings.output_weight * q.output
        q.produced = q.output
        q.status = FINISHED
        end(settings, state, state.fresh[position], time)
    _record(state, count, held, tokens, time)
    me.steps += steps + state.requests[state.fresh[count - 1]].output - 1
    me.busy += time - me.clock
    me.clock = time


@entry
def serve(settings, latency, state, protocol, pause, most):
    """Serve up to `most` batches, none that starts at `pause` or later.

    `protocol` is [requests in a batch, its wait, an idle engine's poll], times in picoseconds. Returns why it stopped:
    ENDED, PAUSED, ASKS, or MORE, also when the samples' buffer is full; the caller empties it.
    """
    me = state.instances[0]
    if state.world[0].asking != NONE:
        take_answer(state)
    for _ in range(most):
        if state.world[0].samples == state.sample.shape[0]:
            return MORE
        if not _open(settings, state, protocol[2]):
            return ENDED
        if me.granted == 0:
            _gather(settings, state, protocol[0], protocol[1])
            me.granted = 1
        if me.clock >= pause:
            return PAUSED
        take_turns(settings, state, me.clock + 0)
        if settings.ordered == 1 and me.stale == 1 and me.waiting > 1:
            ask(settings, state, 0)
            return ASKS
        count, held = _form(settings, state, protocol[0])
        _serve(settings, latency, state, count, held)
        me.granted = 0
    return MORE
