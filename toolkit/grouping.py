"""Rows brought together by key, in their order: one sort of plain integers instead of a hash table of groups."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
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
    packed = spread >> low << low
    packed |= np.arange(rows, dtype=np.uint64)
    packed.sort()
    order: Ints = packed & ((np.uint64(1) << low) - np.uint64(1))
    order = order.astype(np.int32) if rows < 2**31 else order.astype(np.int64)
    packed >>= low
    return _told_apart(spread[order], order, packed)


def grouped_few(numbers: NDArray[np.unsignedinteger]) -> Groups:
    """Group rows by numbers that hardly ever exceed 65,535, ascending; a sort by digits takes a third of the time."""
    most = int(numbers.max(initial=0))
    if most >= 2**16:
        return grouped(numbers.astype(np.uint64))
    small = numbers.astype(np.min_scalar_type(most))
    order = np.argsort(small, kind="stable")
    return Groups(order, _changes(small.take(order)))


def _told_apart(ordered: Keys, order: Ints, high: Keys) -> Groups:
    first = _changes(ordered)
    shared = first & ~_changes(high)
    if shared.any():
        mixed = np.flatnonzero(np.isin(high, high[shared]))
        again = np.lexsort((order[mixed], ordered[mixed]))
        order[mixed], ordered[mixed] = order[mixed][again], ordered[mixed][again]
        first = _changes(ordered)
    return Groups(order, first)


def _changes(values: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it; the first does."""
    changed = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed
