"""Paged KV memory and the prefix cache over it, after vLLM V1.

A block is held by requests, or free; a free block is idle, or still in the cache, on a least-recently-used list from
which it is taken only when no idle one is left. A block shared by several requests counts once. A request's own blocks
that were freed stay in the cache as one entry (`parked`) that loses its tail first, as vLLM frees a request's blocks in
reverse order; should the request come back, it finds what is left.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.state import NONE


@compiled
def blocks_of(settings, tokens):
    """Blocks that hold `tokens` tokens."""
    return (tokens + settings.block_tokens - 1) // settings.block_tokens


@compiled
def _shared_node(state, r, position):
    q = state.requests[r]
    return state.instances[q.instance].first_node + state.prefix[q.blocks_from + position]


@compiled
def _append(state, i, node):
    me = state.instances[i]
    state.nodes[node].before = me.newest
    state.nodes[node].after = NONE
    if me.newest == NONE:
        me.oldest = node
    else:
        state.nodes[me.newest].after = node
    me.newest = node


@compiled
def _unlink(state, i, node):
    me = state.instances[i]
    before, after = state.nodes[node].before, state.nodes[node].after
    if before == NONE:
        me.oldest = after
    else:
        state.nodes[before].after = after
    if after == NONE:
        me.newest = before
    else:
        state.nodes[after].before = before


@compiled
def take(settings, state, i, blocks):
    """Hold `blocks` free blocks (the caller knows they are there), evicting the least recently used from the cache."""
    me = state.instances[i]
    me.free -= blocks
    me.idle -= blocks
    while me.idle < 0:
        node = me.oldest
        if node < settings.own_nodes:
            state.nodes[node].present = 0
            _unlink(state, i, node)
            me.idle += settings.hash_blocks
        else:
            owner = state.requests[node - settings.own_nodes]
            taken = min(-me.idle, owner.parked)
            owner.parked -= taken
            me.idle += taken
            if owner.parked == 0:
                _unlink(state, i, node)


@called
def cached_prefix(settings, state, i, r, tokens):
    """What instance `i` has of the first `tokens` - 1 tokens of `r`: (shared blocks, of them unused, own blocks)."""
    q = state.requests[r]
    shared, unused, own = 0, 0, 0
    if settings.cache == 0:
        return shared, unused, own
    while q.blocks_from + shared < q.blocks_to and (shared + 1) * settings.hash_tokens < tokens:
        node = state.nodes[state.instances[i].first_node + state.prefix[q.blocks_from + shared]]
        if node.present == 0:
            break
        shared += 1
        unused += 1 if node.users == 0 else 0
    # Its own parked blocks follow the shared ones it held, and are useless when one of those has gone.
    if q.parked > 0 and shared == q.shared:
        own = min(q.parked, (tokens - 1 - shared * settings.hash_tokens) // settings.block_tokens)
    return shared, unused, own


@called
def claim(settings, state, r, shared, own):
    """Hold the `shared` and `own` blocks that `cached_prefix` found; what else was parked becomes idle."""
    q = state.requests[r]
    i = np.int64(q.instance)
    me = state.instances[i]
    for position in range(shared):
        node = _shared_node(state, r, position)
        if state.nodes[node].users == 0:
            _unlink(state, i, node)
            me.free -= settings.hash_blocks
        state.nodes[node].users += 1
    q.shared = shared
    if q.parked > 0:
        _unlink(state, i, settings.own_nodes + r)
        me.free -= own
        me.idle += q.parked - own
        q.parked = 0


@compiled
def unpark(settings, state, i, r):
    """Forget the blocks of its own that a waiting request left in the cache of instance `i`: it goes elsewhere."""
    q, me = state.requests[r], state.instances[i]
    if q.parked > 0:
        _unlink(state, i, settings.own_nodes + r)
        me.idle += q.parked
        q.parked = 0


@called
def register(settings, state, r, tokens):
    """Let later requests find the prefix blocks that are full at `tokens` tokens.

    A block that somebody else has computed meanwhile stays this request's own, and so does all that follows it.
    """
    q = state.requests[r]
    while q.blocks_from + q.shared < q.blocks_to and (q.shared + 1) * settings.hash_tokens <= tokens:
        node = state.nodes[_shared_node(state, r, np.int64(q.shared))]
        if node.present == 1:
            break
        node.present = 1
        node.users = 1
        q.shared += 1


@called
def release(settings, state, r, tokens):
    """Free the blocks of a request that holds `tokens` tokens of context; the cache keeps them while it can."""
    q = state.requests[r]
    i = np.int64(q.instance)
    me = state.instances[i]
    own = blocks_of(settings, tokens) - q.shared * settings.hash_blocks
    me.free += own
    if settings.cache == 0:
        me.idle += own
        return
    if own > 0:
        q.parked = own
        _append(state, i, settings.own_nodes + r)
    for position in range(np.int64(q.shared) - 1, -1, -1):
        node = _shared_node(state, r, position)
        state.nodes[node].users -= 1
        if state.nodes[node].users == 0:
            me.free += settings.hash_blocks
            _append(state, i, node)


@compiled
def freed_by(settings, state, r, tokens):
    """Blocks that `release` would free: those nobody else uses."""
    q = state.requests[r]
    blocks = blocks_of(settings, tokens) - q.shared * settings.hash_blocks
    for position in range(np.int64(q.shared)):
        if state.nodes[_shared_node(state, r, position)].users == 1:
            blocks += settings.hash_blocks
    return blocks
