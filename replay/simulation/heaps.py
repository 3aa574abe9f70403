"""The queues of the core: an indexed binary heap for what decodes, a pairing heap for what waits.

A binary heap orders by (key, request): DUE smallest first and ties to the smaller request, LAST smallest key (minus the
rank) first and ties to the larger request. A pairing heap orders by (order, request).
"""

import numpy as np

from replay.simulation.compiled import compiled
from replay.simulation.state import LAST, NONE


@compiled
def _before(state, which, a, b):
    if state.key[which, a] != state.key[which, b]:
        return state.key[which, a] < state.key[which, b]
    return a > b if which == LAST else a < b


@compiled
def _sift_up(state, i, which, slot):
    item = state.heap[i, which, slot]
    while slot > 0:
        parent = (slot - 1) >> 1
        above = state.heap[i, which, parent]
        if not _before(state, which, item, above):
            break
        state.heap[i, which, slot] = above
        state.slot[which, above] = slot
        slot = parent
    state.heap[i, which, slot] = item
    state.slot[which, item] = slot


@compiled
def _sift_down(state, i, which, slot, size):
    item = state.heap[i, which, slot]
    while True:
        below = 2 * slot + 1
        if below >= size:
            break
        if below + 1 < size and _before(state, which, state.heap[i, which, below + 1], state.heap[i, which, below]):
            below += 1
        under = state.heap[i, which, below]
        if not _before(state, which, under, item):
            break
        state.heap[i, which, slot] = under
        state.slot[which, under] = slot
        slot = below
    state.heap[i, which, slot] = item
    state.slot[which, item] = slot


@compiled
def heap_add(state, i, which, r, size):
    """Add request `r` to a heap of `size` entries."""
    state.heap[i, which, size] = r
    _sift_up(state, i, which, size)


@compiled
def heap_remove(state, i, which, r, size):
    """Remove request `r`, wherever it is, from a heap of `size` entries."""
    slot = state.slot[which, r]
    last = state.heap[i, which, size - 1]
    if last != r:
        state.heap[i, which, slot] = last
        state.slot[which, last] = slot
        heap_move(state, i, which, last, size - 1)


@compiled
def heap_move(state, i, which, r, size):
    """Restore the order after the key of `r` has changed."""
    _sift_up(state, i, which, state.slot[which, r])
    _sift_down(state, i, which, state.slot[which, r], size)


@compiled
def _meld(requests, a, b):
    """The root of two pairing heaps put together; NONE is the empty heap."""
    if a == NONE or b == NONE:
        return max(a, b)
    x, y = requests[a].order, requests[b].order
    if y < x or (y == x and b < a):
        a, b = b, a
    requests[b].sibling = requests[a].child
    requests[a].child = b
    return a


@compiled
def push(requests, root, r):
    """Add `r` to the pairing heap at `root`; returns the new root."""
    requests[r].child = NONE
    requests[r].sibling = NONE
    return _meld(requests, root, r)


@compiled
def pop(requests, root):
    """Take the first entry off the pairing heap; returns the new root. Two passes, without recursion."""
    pairs = np.int64(NONE)
    a = np.int64(requests[root].child)
    while a != NONE:
        b = np.int64(requests[a].sibling)
        after = np.int64(requests[b].sibling) if b != NONE else np.int64(NONE)
        merged = _meld(requests, a, b)
        requests[merged].sibling = pairs
        pairs, a = merged, after
    result = np.int64(NONE)
    while pairs != NONE:
        after = np.int64(requests[pairs].sibling)
        result = _meld(requests, result, pairs)
        pairs = after
    return result
