"""Mattson's stack distances, compiled: one pass gives LRU's hits for every cache size."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


@njit(cache=True)
def hits_by_distance(previous: NDArray[np.integer], distinct: int) -> Ints:
    """How many references have each stack distance, int64[distinct + 1]; entry 0 counts those that never hit.

    `previous[i]` is the index of the last reference to the same block, −1 when there is none. The distance of a
    reference is how many distinct blocks were used since that last use, itself included: an LRU cache of c blocks hits
    it when the distance is at most c.

    The last use of every block is marked in a bit set over time, whose words a Fenwick tree counts. Prompts repeat
    each other in long runs: when i, i + 1, … last occurred at p, p + 1, …, the distances are equal (what enters between
    the two is what leaves), so a run costs one query, and one update a word of 64.
    """
    n = len(previous)
    marks = np.zeros(n // 64 + 1, np.uint64)
    tree = np.zeros(len(marks) + 1, np.int64)
    hits = np.zeros(distinct + 1, np.int64)
    i = seen = 0
    while i < n:
        last, end = previous[i], i + 1
        if last < 0:
            while end < n and previous[end] < 0:
                end += 1
            hits[0] += end - i
            seen += end - i
        else:
            # The run stops before it would reach into itself.
            while end < n and previous[end] == last + end - i and previous[end] < i:
                end += 1
            hits[seen - _marked_to(marks, tree, last) + 1] += end - i
            _change(marks, tree, last, last + end - i, -1)
        _change(marks, tree, i, end, 1)
        i = end
    return hits


@njit(cache=True)
def _marked_to(marks: Words, tree: Ints, last: int) -> np.int64:
    """How many marks there are up to and with `last`."""
    word = last >> 6
    total = _ones(marks[word] & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(63 - (last & 63))))
    while word > 0:
        total += tree[word]
        word -= word & -word
    return total


@njit(cache=True)
def _change(marks: Words, tree: Ints, begin: int, end: int, by: int) -> None:
    """Set (by 1) or clear (by −1) the marks of `[begin, end)`, all of which are the other way before."""
    while begin < end:
        word = begin >> 6
        count = min(end, (word + 1) << 6) - begin
        marks[word] ^= (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - count)) << np.uint64(begin & 63)
        begin += count
        node = word + 1
        while node < len(tree):
            tree[node] += by * count
            node += node & -node


@njit(cache=True)
def _ones(word: np.uint64) -> np.int64:
    """The number of set bits, added in ever wider fields."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    for fold in (8, 16, 32):
        word = word + (word >> np.uint64(fold))
    return np.int64(word & np.uint64(0x7F))
