"""One step of one instance, after vLLM V1: running requests first, then waiting ones in rank order, in a token budget.

What decodes has its blocks first, and whoever ranks last loses its place when there are none. What is left of the
budget goes to the prefill that is under way, then to the waiting, each admitted only when its whole prompt has room. At
most one request is in the middle of its prefill, for the budget ends with it. An engine that prefills first (vLLM V0's
default; decode priority with chunked prefill is Sarathi's) has steps of prefills alone, for which what decodes pauses.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.jumps import blocks_for, needed, steps_alike
from replay.simulation.latency import decode_line, mixed_attention, prefill_attention, sum_of
from replay.simulation.mapping import mapped_meanwhile, mapping_time, pages_mapped
from replay.simulation.memory import blocks_of, cached_prefix, claim, freed_by, register, take
from replay.simulation.notes import (
    AFTER_PREEMPTION,
    BEHIND,
    NO_MEMORY,
    NO_PLACE,
    NO_TOKENS,
    STARTED,
    WAITS,
    note,
)
from replay.simulation.places import first_tokens, last_rank, preempt, reach_due, victim
from replay.simulation.queues import forget_turn, head, leave
from replay.simulation.state import LAST, NONE, PREFILLING, WAITING, WHOLE


@called
def _make_room(settings, state, i):
    """Preempt until what decodes, and then the prefill under way, has its blocks. True when somebody lost its place."""
    me = state.instances[i]
    evicted = False
    while needed(settings, state, i) > me.free:
        preempt(settings, state, i, victim(settings, state, i), np.int64(NONE))
        evicted = True
    while me.partial != NONE:
        _chunk, blocks = _next_chunk(settings, state, me.partial, settings.max_num_batched_tokens - me.decodes)
        if blocks + needed(settings, state, i) <= me.free:
            break
        preempt(settings, state, i, victim(settings, state, i), np.int64(NONE))
        evicted = True
    return evicted


@compiled
def _next_chunk(settings, state, r, budget):
    """(Tokens, blocks) of the next chunk of a request's prefill."""
    q = state.requests[r]
    chunk = min(np.int64(q.prompt + q.produced - q.computed), budget)
    return chunk, blocks_of(settings, q.computed + chunk) - blocks_of(settings, np.int64(q.computed))


@compiled
def fits(settings, state, i, r, running, free):
    """Whether all of `r` so far has a place and memory, when so many run and so many blocks are free."""
    return running < settings.max_num_seqs and _missing(settings, state, i, r) <= free


@compiled
def _missing(settings, state, i, r):
    """Free blocks that must be there for all of `r` so far to have memory."""
    q = state.requests[r]
    tokens, held = np.int64(q.prompt + q.produced), np.int64(0)
    if q.computed == 0:  # what was swapped out comes back as its own
        shared, unused, _own = cached_prefix(settings, state, i, r, tokens)
        held = (shared - unused) * settings.hash_blocks
    return blocks_of(settings, tokens) - held + settings.watermark_blocks


@compiled
def _enough(settings, state, i, r, rank):
    """Whether `r` fits once everything that decodes and ranks after `rank` has lost its place."""
    me, moved = state.instances[i], settings.victim_slope * state.instances[i].decoded
    missing = _missing(settings, state, i, r) - me.free
    places, blocks = np.int64(0), np.int64(0)
    for slot in range(me.decodes):
        other = state.heap[i, LAST, slot]
        if rank < moved - state.key[LAST, other]:
            places += 1
            blocks += freed_by(settings, state, other, me.decoded - state.requests[other].origin + me.granted)
            if blocks >= missing and me.running - places < settings.max_num_seqs:
                return True
    return False


@called
def _displace(settings, state, i, r):
    """Preempt what decodes and ranks after `r` until it fits. Nobody loses its place unless that is enough."""
    me = state.instances[i]
    rank = state.requests[r].order + settings.hysteresis
    if settings.displace == 0 or not rank < last_rank(settings, state, i):
        return False
    if not _enough(settings, state, i, r, rank):
        return False
    while not fits(settings, state, i, r, me.running, me.free) and rank < last_rank(settings, state, i):
        preempt(settings, state, i, state.heap[i, LAST, 0], r)
    return fits(settings, state, i, r, me.running, me.free)


@compiled
def _swap_in(settings, state, i, r):
    """Bring what a request had computed back from the host; its blocks are its own from now on."""
    context = np.int64(state.requests[r].computed)
    claim(settings, state, r, 0, 0)
    take(settings, state, i, blocks_of(settings, context))
    state.instances[i].moved += context


@compiled
def _moving_time(settings, me):
    """Time the step waits for KV that moves to and from the host."""
    time = me.moved * settings.swap_token
    me.moved = 0
    return time


@called
def _admit(settings, state, i, r):
    """Give the first of the waiting its place, and what the cache has of it."""
    q, me = state.requests[r], state.instances[i]
    leave(settings, state, i, r)
    turned = forget_turn(state, r)
    me.running += 1
    if q.computed > 0:
        _swap_in(settings, state, i, r)
    else:
        shared, _unused, own = cached_prefix(settings, state, i, r, np.int64(q.prompt + q.produced))
        claim(settings, state, r, shared, own)
        q.computed = shared * settings.hash_tokens + own * settings.block_tokens
    if q.start == NONE:
        q.start = me.clock
        q.cached = q.computed
    else:
        q.preempted += me.clock - q.left
    note(settings, state, r, me.clock, STARTED, np.int64(q.computed), np.int64(turned))
    q.status = PREFILLING
    me.partial = r


@compiled
def _prefill(settings, latency, state, i, budget):
    """Schedule the next chunk of the prefill under way; returns (tokens, tokens before them, attention time)."""
    r = state.instances[i].partial
    q = state.requests[r]
    chunk, blocks = _next_chunk(settings, state, r, budget)
    prior = np.int64(q.computed)
    time = prefill_attention(latency, chunk, prior)
    take(settings, state, i, blocks)
    q.computed += chunk
    register(settings, state, r, np.int64(q.computed))
    return chunk, prior, time


@compiled
def active(me):
    """Requests that decode in the step at hand."""
    return me.decodes * (1 - me.paused)


@compiled
def _fill(settings, latency, state, i, evicted):
    """Use what decoding leaves of the token budget.

    Returns (tokens, Σ tokens of a chunk · tokens before it, attention time, how many prefills complete: they are the
    first entries of `fresh`).
    """
    me = state.instances[i]
    tokens, priors, time, complete = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    while settings.max_num_batched_tokens - active(me) > tokens:
        if me.partial == NONE:
            if evicted or me.waiting == 0:
                break
            r = head(settings, state, i)
            if state.requests[r].order > me.bar:
                break
            if not fits(settings, state, i, r, me.running, me.free) and not _displace(settings, state, i, r):
                break
            _admit(settings, state, i, r)
        left = settings.max_num_batched_tokens - active(me) - tokens
        chunk, prior, attention = _prefill(settings, latency, state, i, left)
        tokens += chunk
        priors += chunk * prior
        time += attention
        q = state.requests[me.partial]
        if q.computed == q.prompt + q.produced:
            state.fresh[complete] = me.partial
            complete += 1
            me.partial = NONE
    if settings.watch != NONE:
        _note_waiting(settings, state, i, evicted, tokens)
    return tokens, priors, time, complete


@compiled
def _ahead_of(settings, state, i, r):
    """How many wait at instance `i` in the same lane, before `r`."""
    q, count = state.requests[r], np.int64(0)
    for other in range(state.requests.size):
        o = state.requests[other]
        before = o.order < q.order or (o.order == q.order and other < r)
        if before and o.status == WAITING and o.instance == i and o.lane == q.lane:
            count += 1
    return count


@called
def _note_waiting(settings, state, i, evicted, tokens):
    """Why the watched request still waits, and behind how many."""
    r, me = settings.watch, state.instances[i]
    q = state.requests[r]
    if q.status != WAITING or q.instance != i:
        return
    why = np.int64(NO_MEMORY)
    if head(settings, state, i) != r:
        why = np.int64(BEHIND)
    elif settings.max_num_batched_tokens - active(me) <= tokens:
        why = np.int64(NO_TOKENS)
    elif evicted:
        why = np.int64(AFTER_PREEMPTION)
    elif me.running >= settings.max_num_seqs:
        why = np.int64(NO_PLACE)
    note(settings, state, r, me.clock + 0, WAITS, why, _ahead_of(settings, state, i, r))


@compiled
def _contexts(latency, state, i):
    """The shortest and the longest context of what decodes; looked for only where the latency model asks."""
    me = state.instances[i]
    shortest, longest = np.int64(0), np.int64(0)
    if latency.skew.size > 0:
        for slot in range(me.decodes):
            context = me.decoded + 1 - state.requests[state.heap[i, LAST, slot]].origin
            shortest = context if slot == 0 else min(shortest, context)
            longest = max(longest, context)
    return shortest, longest


@compiled
def _prefill_alone(settings, latency, state, i):
    """Fill a step with prefills alone; (tokens, Σ tokens of a chunk · tokens before it, attention time, complete)."""
    me = state.instances[i]
    if me.partial != NONE:
        _chunk, blocks = _next_chunk(settings, state, me.partial, settings.max_num_batched_tokens)
        if blocks > me.free:
            return np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    me.paused = 1
    tokens, priors, attention, complete = _fill(settings, latency, state, i, False)
    if tokens == 0:
        me.paused = 0
    return tokens, priors, attention, complete


@compiled
def choose_batch(settings, latency, state, i):
    """Give the next step's batch its blocks: what decodes first, then prefills.

    Returns (whether somebody lost its place, prefill tokens, Σ tokens of a chunk · tokens before it, their attention
    time, prefills that complete).
    """
    me = state.instances[i]
    me.granted = 0
    me.paused = 0
    if settings.prefill_first == 1:
        tokens, priors, attention, complete = _prefill_alone(settings, latency, state, i)
        if tokens > 0:
            return False, tokens, priors, attention, complete
    evicted = _make_room(settings, state, i)
    take(settings, state, i, needed(settings, state, i))
    me.granted = 1
    tokens, priors, attention, complete = _fill(settings, latency, state, i, evicted)
    return evicted, tokens, priors, attention, complete


@compiled
def kv_read(me):
    """KV tokens that what decodes reads in the next step."""
    return (me.decodes * (me.decoded + 1) - me.origins) * (1 - me.paused)


@compiled
def batch_time(settings, latency, state, i, tokens, priors, attention, complete):
    """Time of one step with the batch that was chosen."""
    me = state.instances[i]
    shortest, longest = _contexts(latency, state, i)
    time = latency.dense[active(me) + tokens] + latency.head[active(me) + complete] + attention
    time += mixed_attention(latency, tokens, priors, active(me), kv_read(me), shortest, longest)
    return time + _moving_time(settings, me)


@compiled
def let_go(me):
    """Free what the finished have left: the next step is planned. True when there was something."""
    freed = me.held_places > 0
    me.free += me.held_blocks
    me.running -= me.held_places
    me.held_blocks = 0
    me.held_places = 0
    return freed


@compiled
def end_steps(settings, state, i, steps, tokens, complete, time):
    """Count the steps that instance `i` has taken with its batch in `time`, and let finish what is finished.

    An engine that has planned its next step already has what the finished leave only in the step after that.
    """
    me = state.instances[i]
    me.last_batch = active(me) + tokens
    me.busy += time
    me.steps += steps
    me.decoded += steps * (1 - me.paused)
    me.prefilled += tokens
    me.emitted += active(me) * steps + complete
    free, running = np.int64(me.free), np.int64(me.running)
    first_tokens(settings, state, i, complete)
    reach_due(settings, state, i)
    if settings.ahead == 1:
        me.held_blocks, me.held_places = me.free - free, running - me.running
        me.free, me.running = free, running


@compiled
def step(settings, latency, state, i, until):
    """Take one step of instance `i`, or several alike that all start before `until`; none when nothing can run."""
    me = state.instances[i]
    evicted, tokens, priors, attention, complete = choose_batch(settings, latency, state, i)
    freed = let_go(me)
    if tokens == 0 and me.decodes == 0:
        me.begun = NONE
        return
    steps, mapping = np.int64(1), mapping_time(me)
    if tokens == 0 and not evicted:
        shortest, longest = _contexts(latency, state, i)
        first, rise, alike = decode_line(latency, me.decodes, kv_read(me), shortest, longest)
        # Whoever waits may find room in the next step that was not there in this.
        if mapping == 0 and not (freed and me.waiting > 0):
            steps = mapped_meanwhile(settings, state, i, steps_alike(settings, state, i, first, rise, alike, until))
        take(settings, state, i, blocks_for(settings, state, i, steps) - needed(settings, state, i))
        time = sum_of(first, rise, steps)
        me.last_step = first + rise * (steps - 1)
    else:
        time = batch_time(settings, latency, state, i, tokens, priors, attention, complete)
        me.last_step = time
    time += time * me.contention // WHOLE + mapping
    me.last_step += mapping
    me.pages = max(me.pages, pages_mapped(me))
    me.clock += time
    if settings.ahead == 1:
        me.begun = me.clock - me.last_step - me.last_step * me.contention // WHOLE
    end_steps(settings, state, i, steps, tokens, complete, time)
