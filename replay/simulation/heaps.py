"""The queues of the core: indexed binary heaps for what runs, pairing heaps for what waits.

A binary heap is three arrays: `heap` (its items by slot), `key` and `slot` (by item). It has the smallest key first;
ties go to the smaller item, or to the larger one with `larger` = 1. A pairing heap orders by (order, request), and
lives in the requests' own links.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.state import NONE


@compiled
def _before(key, a, b, larger):
    if key[a] != key[b]:
        return key[a] < key[b]
    return a > b if larger == 1 else a < b


@compiled
def _sift_up(heap, key, slot, at, larger):
    item = heap[at]
    while at > 0:
        parent = (at - 1) >> 1
        above = heap[parent]
        if not _before(key, item, above, larger):
            break
        heap[at] = above
        slot[above] = at
        at = parent
    heap[at] = item
    slot[item] = at


@compiled
def _sift_down(heap, key, slot, at, size, larger):
    item = heap[at]
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _before(key, heap[below + 1], heap[below], larger):
            below += 1
        under = heap[below]
        if not _before(key, under, item, larger):
            break
        heap[at] = under
        slot[under] = at
        at = below
    heap[at] = item
    slot[item] = at


@compiled
def heap_add(heap, key, slot, item, size, larger):
    """Add `item` to a heap of `size` items."""
    heap[size] = item
    _sift_up(heap, key, slot, size, larger)


@compiled
def heap_remove(heap, key, slot, item, size, larger):
    """Remove `item`, wherever it is, from a heap of `size` items."""
    at, last = np.int64(slot[item]), heap[size - 1]
    if last != item:
        heap[at] = last
        slot[last] = at
        heap_move(heap, key, slot, last, size - 1, larger)


@compiled
def heap_move(heap, key, slot, item, size, larger):
    """Restore the order after the key of `item` has changed."""
    _sift_up(heap, key, slot, np.int64(slot[item]), larger)
    _sift_down(heap, key, slot, np.int64(slot[item]), size, larger)


@compiled
def _meld(requests, a, b):
    """The root of two pairing heaps put together; NONE is the empty heap."""
    if a == NONE or b == NONE:
        return max(a, b)
    x, y = requests[a].order, requests[b].order
    if y < x or (y == x and b < a):
        a, b = b, a
    child = np.int64(requests[a].child)
    requests[b].sibling = child
    if child != NONE:
        requests[child].before = b
    requests[b].before = a
    requests[a].child = b
    return a


@compiled
def push(requests, root, r):
    """Add `r` to the pairing heap at `root`; returns the new root."""
    requests[r].child = NONE
    requests[r].sibling = NONE
    requests[r].before = NONE
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
    if result != NONE:
        requests[result].sibling = NONE
        requests[result].before = NONE
    return result


@called
def remove(requests, root, r):
    """Take `r`, wherever it is, out of the pairing heap at `root`; returns the new root."""
    if r == root:
        return pop(requests, root)
    before, sibling = np.int64(requests[r].before), np.int64(requests[r].sibling)
    if requests[before].child == r:
        requests[before].child = sibling
    else:
        requests[before].sibling = sibling
    if sibling != NONE:
        requests[sibling].before = before
    return _meld(requests, root, pop(requests, r))
