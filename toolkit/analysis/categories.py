"""A column of names as whole numbers, counted without looking at the text again."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[np.unsignedinteger]
SLICE = 2**16  # requests that are looked at at once: what is made of them stays in a core's cache


class Categories:
    """A column's names: 0 is no name, others count from 1, few and small where this process knows few names."""

    def __init__(self, column: pl.Series):
        self._category = column.cast(pl.Categorical)  # held, because Polars forgets numbers that nobody holds
        physical = self._category.to_physical()
        if physical.null_count():
            self.numbers: Numbers = (physical.cast(pl.Int64) + 1).fill_null(0).cast(pl.UInt32).to_numpy()
        else:
            self.numbers = physical.to_numpy() + np.uint32(1)

    @property
    def most(self) -> int:
        return int(self.numbers.max(initial=0))

    @cached_property
    def counted(self) -> tuple[Ints, Ints]:
        """The numbers that occur, ascending, and how often each does."""
        counts = np.zeros(self.most + 1, dtype=np.int64)
        for (part,) in slices(self.numbers):
            counts += np.bincount(part, minlength=len(counts))
        found = np.flatnonzero(counts)
        return found, counts[found]

    def names(self) -> list[str | None]:
        """What the numbers that occur stand for."""
        known = pl.Series(self.counted[0], dtype=pl.Int64)
        category = (known - 1).set(known == 0, None).cast(pl.UInt32).cat.to(pl.Categorical())
        return category.cast(pl.String).to_list()


def slices(*arrays: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], ...]]:
    """The arrays some requests at a time."""
    for begin in range(0, len(arrays[0]), SLICE):
        yield tuple(array[begin : begin + SLICE] for array in arrays)
