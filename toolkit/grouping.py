"""Rows brought together by key, in their order: one sort of plain integers instead of a hash table of groups."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying by it is one to one: it spreads small numbers over 64 bits


@dataclass(frozen=True)
class Groups:
    """`order` lists the rows group by group, each group's in row order; `first` marks where a group begins."""

    order: Ints
    first: NDArray[np.bool_]

    @cached_property
    def starts(self) -> Ints:
        """Where each group begins in `order`, and the end."""
        return np.append(np.flatnonzero(self.first), len(self.order))

    @property
    def sizes(self) -> Ints:
        return np.diff(self.starts)

    @property
    def index(self) -> Ints:
        """The group that each place of `order` belongs to."""
        return np.cumsum(self.first) - 1

    @property
    def place(self) -> Ints:
        """From 0 within each group, for each place of `order`."""
        places: Ints = np.arange(len(self.order)) - np.repeat(self.starts[:-1], self.sizes)
        return places


def grouped(keys: Keys) -> Groups:
    """Group rows by a 64-bit key.

    The row number replaces the low bits of the spread key, so that one sort of integers, which is many times faster
    than an indirect one, yields the rows too. The few groups that then share their high bits are told apart after it.
    """
    spread, rows = keys * SPREAD, len(keys)
    low = np.uint64(max(rows - 1, 1).bit_length())
    packed = (spread >> low << low) | np.arange(rows, dtype=np.uint64)
    packed.sort()
    order = (packed & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)
    return _told_apart(spread, order, packed >> low)


def _told_apart(spread: Keys, order: Ints, high: Keys) -> Groups:
    ordered = spread[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    shared = first[1:] & (high[1:] == high[:-1])
    if shared.any():
        mixed = np.flatnonzero(np.isin(high, high[1:][shared]))
        order[mixed] = order[mixed][np.lexsort((order[mixed], ordered[mixed]))]
        ordered = spread[order]
        first[1:] = ordered[1:] != ordered[:-1]
    return Groups(order, first)
