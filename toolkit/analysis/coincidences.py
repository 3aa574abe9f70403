"""Windows in which both of a pair are active, counted in bits and compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # names × blocks, a window a bit
Counts = NDArray[np.uint16]


@njit(cache=True)
def together(words: Words, edges: NDArray[np.int64], into: Counts) -> Counts:
    """Parts × pairs, in the order of `upper_pairs`; `edges` are the blocks at which parts begin, and the end."""
    names = len(words)
    for part in range(len(edges) - 1):
        pair = 0
        for i in range(names - 1):
            for j in range(i + 1, names):
                count = np.uint64(0)
                for block in range(edges[part], edges[part + 1]):
                    count += _bits(words[i, block] & words[j, block])
                into[part, pair] = count
                pair += 1
    return into


@njit(cache=True)
def _bits(word: np.uint64) -> np.uint64:
    """How many bits are set: sums of two, four, and eight bits side by side, then of the eight bytes."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)
