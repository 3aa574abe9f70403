"""How often each model has each length: a table of the usual lengths, and the few longer ones one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.categories import Categories, slices
from toolkit.counted import Counted

Ints = NDArray[np.int64]
USUAL = 2**14  # lengths below it have a place in the table
LARGEST_TABLE = 2**21  # places
UNKNOWN = np.int32(-(2**31))


@dataclass(frozen=True)
class LengthCounts:
    """`usual[m, t]` requests of the m-th name have t tokens; `rare` are name, length and requests of all others."""

    names: tuple[str | None, ...]
    usual: Ints
    rare: tuple[Ints, Ints, Ints]

    @classmethod
    def of(cls, model: Categories, tokens: pl.Series) -> "LengthCounts":
        """Count requests whose length is known."""
        length = tokens.fill_null(UNKNOWN).to_numpy()
        found, _ = model.counted
        width = max(1, min(int(length.max(initial=0)) + 1, USUAL, LARGEST_TABLE // max(1, len(found))))
        row = np.zeros(model.most + 1, dtype=np.int64)
        row[found] = np.arange(len(found)) * (width + 1)
        cells, rare = np.empty(len(length), dtype=np.int64), []
        for number, own, cell in slices(model.numbers, length, cells):
            cell[:] = row.take(number)
            usual = np.minimum(own.view(np.uint32), np.uint32(width))  # what is negative is rare, too
            long = np.flatnonzero(usual == width)
            long = long[own[long] != UNKNOWN]
            rare.append((cell[long] // (width + 1), own[long].astype(np.int64), np.ones(len(long), dtype=np.int64)))
            cell += usual
        table = np.bincount(cells, minlength=len(found) * (width + 1))
        return cls(tuple(model.names()), table.reshape(len(found), width + 1)[:, :width], _summed(rare))

    @classmethod
    def merged(cls, parts: "Sequence[LengthCounts]") -> "LengthCounts":
        """All parts together."""
        if len(parts) == 1:
            return parts[0]
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        place = {name: i for i, name in enumerate(names)}
        usual = np.zeros((len(names), max((part.usual.shape[1] for part in parts), default=1)), dtype=np.int64)
        rare = []
        for part in parts:
            rows = np.array([place[name] for name in part.names], dtype=np.int64)
            for row, own in zip(rows, part.usual, strict=True):
                usual[row, : len(own)] += own
            rare.append((rows[part.rare[0]], *part.rare[1:]))
        return cls(names, usual, _summed(rare))

    @cached_property
    def all(self) -> Counted:
        """The lengths of all requests."""
        return _counted(self.usual.sum(axis=0), self.rare[1], self.rare[2])

    def of_name(self, name: str | None) -> Counted:
        """The lengths of one name's requests."""
        if name not in self.names:
            return Counted(np.zeros(0), np.zeros(0, dtype=np.int64))
        place = self.names.index(name)
        own = slice(*np.searchsorted(self.rare[0], [place, place + 1]))
        return _counted(self.usual[place], self.rare[1][own], self.rare[2][own])


def _summed(rare: Sequence[tuple[Ints, Ints, Ints]]) -> tuple[Ints, Ints, Ints]:
    """The same name and length once."""
    empty = np.zeros(0, dtype=np.int64)
    place, length, count = (
        (np.concatenate([empty, *each]) for each in zip(*rare, strict=True)) if rare else (empty,) * 3
    )
    order = np.lexsort((length, place))
    place, length, count = place[order], length[order], count[order]
    first = np.flatnonzero((np.diff(place, prepend=-1) != 0) | (np.diff(length, prepend=-1) != 0))
    return place[first], length[first], np.add.reduceat(count, first) if len(first) else count


def _counted(usual: Ints, lengths: Ints, counts: Ints) -> Counted:
    found = np.flatnonzero(usual)
    values, index = np.unique(lengths, return_inverse=True)
    rare = np.bincount(index, weights=counts, minlength=len(values)).astype(np.int64)
    below = np.searchsorted(values, 0)  # what is negative comes first
    together = np.concatenate([values[:below], found, values[below:]])
    return Counted(together.astype(np.float64), np.concatenate([rare[:below], usual[found], rare[below:]]))
