"""Mattson's stack distances, compiled: one pass gives LRU's hits for every cache size."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def stack_distances(previous: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each reference, how many distinct blocks were used since the same block's last use, itself included; else 0.

    `previous[i]` is the index of the last reference to the same block, −1 when there is none. An LRU cache of c blocks
    hits reference i when 1 ≤ distance ≤ c. A Fenwick tree over time marks the last use of every block: O(n log n).
    """
    n = len(previous)
    tree = np.zeros(n + 1, np.int64)
    distances = np.zeros(n, np.int64)
    distinct = 0
    for i in range(n):
        last = previous[i]
        if last >= 0:
            older = 0
            j = last + 1
            while j > 0:
                older += tree[j]
                j -= j & -j
            distances[i] = distinct - older + 1
            j = last + 1
            while j <= n:
                tree[j] -= 1
                j += j & -j
        else:
            distinct += 1
        j = i + 1
        while j <= n:
            tree[j] += 1
            j += j & -j
    return distances
