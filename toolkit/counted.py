"""A sample as its distinct values and their counts: exact statistics of millions of rows from a few numbers.

The script that measures GPUs uses it where there is no polars.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]
LARGEST_TABLE = 2**23  # places


@dataclass(frozen=True)
class Counted:
    """`values` ascend without repeats; `counts` says how often each occurs."""

    values: Floats
    counts: NDArray[np.int64]

    @classmethod
    def of_integers(cls, column: "pl.Series") -> "Counted":
        """Count a column with few distinct values; nulls are left out."""
        known = column.drop_nulls()
        if len(known) and int(known.min()) >= 0 and int(known.max()) < min(LARGEST_TABLE, len(known)):  # type: ignore[arg-type]
            counts = np.bincount(known.to_numpy())
            found = np.flatnonzero(counts)
            return cls(found.astype(np.float64), counts[found])
        counted = known.value_counts().sort(column.name)
        values, counts = (counted[name].to_numpy() for name in (column.name, "count"))
        return cls(values.astype(np.float64), counts.astype(np.int64))

    @classmethod
    def of_sorted(cls, ordered: NDArray[np.generic]) -> "Counted":
        """Count values that ascend already."""
        first = np.flatnonzero(np.append([True], ordered[1:] != ordered[:-1])[: len(ordered)])
        return cls(ordered[first].astype(np.float64, copy=False), np.diff(first, append=len(ordered)))

    @classmethod
    def of(cls, values: Floats, counts: NDArray[np.int64] | None = None) -> "Counted":
        """Count values in any order, each as often as `counts` says."""
        if counts is None or bool((counts == 1).all()):
            return cls.of_sorted(np.sort(values))
        distinct, place = np.unique(values, return_inverse=True)
        return cls(distinct, np.bincount(place, weights=counts, minlength=len(distinct)).astype(np.int64))

    @classmethod
    def merged(cls, samples: "Sequence[Counted]") -> "Counted":
        """All samples as one."""
        if len(samples) == 1:
            return samples[0]
        values = np.concatenate([np.zeros(0), *(s.values for s in samples)])
        counts = np.concatenate([np.zeros(0, dtype=np.int64), *(s.counts for s in samples)])
        order = np.argsort(values, kind="stable")  # which merges what is in order already
        ordered = values[order]
        first = np.flatnonzero(np.append([True], ordered[1:] != ordered[:-1])[: len(ordered)])
        return cls(ordered[first], np.add.reduceat(counts[order], first) if len(first) else counts)

    @cached_property
    def n(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def cumulative(self) -> NDArray[np.int64]:
        """How many are at or below each value."""
        return np.cumsum(self.counts)

    @cached_property
    def mean(self) -> float:
        return float(self.values @ self.counts / self.n)

    @cached_property
    def std(self) -> float | None:
        """With n − 1 in the denominator; null for one value."""
        if self.n < 2:
            return None
        return float(np.sqrt(((self.values - self.mean) ** 2 @ self.counts) / (self.n - 1)))

    def quantile(self, q: ArrayLike) -> Floats:
        """Numpy's linear quantiles."""
        position = np.asarray(q, dtype=np.float64) * (self.n - 1)
        whole = np.floor(position).astype(np.int64)
        low, high = self.at(whole), self.at(np.minimum(whole + 1, self.n - 1))
        between: Floats = low + (position - whole) * (high - low)
        return between

    def above(self, threshold: float) -> "Counted":
        keep = self.values > threshold
        return Counted(self.values[keep], self.counts[keep])

    def after(self, place: int) -> "Counted":
        """From the value at `place` on."""
        return Counted(self.values[place:], self.counts[place:])

    def at(self, rank: NDArray[np.int64]) -> Floats:
        """The values of these ranks, from 0."""
        return self.values[np.searchsorted(self.cumulative, rank, side="right")]
