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
Rare = tuple[Ints, Ints, Ints]
USUAL = 2**14  # lengths below it may have a place in the table
LARGEST_TABLE = 2**21  # places
COVERED = 0.99  # of a part's requests have a place: the smaller the table, the nearer it is to the core
ASKED = 2**14  # requests whose lengths tell how wide that is
UNKNOWN = np.int32(-(2**31))


@dataclass(frozen=True)
class LengthCounts:
    """A part: `usual[m, t]` requests of the m-th name have t tokens; `rare` are name, length and requests of others."""

    names: tuple[str | None, ...]
    usual: NDArray[np.uint32]
    rare: Rare

    @classmethod
    def of(cls, model: Categories, tokens: pl.Series) -> "LengthCounts":
        """Count requests whose length is known."""
        length = tokens.fill_null(UNKNOWN).to_numpy()
        wide = min(_covering(length), LARGEST_TABLE // (model.most + 1)) + 1  # the last place is for what is rare
        cells, rare = np.empty(len(length), dtype=np.int64), []
        for number, own, cell in slices(model.numbers, length, cells):
            usual = np.minimum(own.view(np.uint32), np.uint32(wide - 1))  # what is negative is rare, too
            long = np.flatnonzero(usual == wide - 1)
            long = long[own[long] != UNKNOWN]
            rare.append((number[long].astype(np.int64), own[long].astype(np.int64), np.ones(len(long), dtype=np.int64)))
            usual += number * np.uint32(wide)
            cell[:] = usual
        table = np.bincount(cells, minlength=(model.most + 1) * wide).reshape(-1, wide)
        found, _ = model.counted
        row, at, count = _summed(rare)
        return cls(tuple(model.names()), table[found, :-1].astype(np.uint32), (np.searchsorted(found, row), at, count))


def _covering(length: NDArray[np.int32]) -> int:
    """How many lengths from 0 on most of these are among."""
    asked = length[:: max(1, len(length) // ASKED)]
    return int(np.clip(np.quantile(asked, COVERED, method="higher") + 1, 0, USUAL)) if len(asked) else 0


@dataclass(frozen=True)
class LengthTable:
    """All parts: `usual[m, t]` requests of the m-th name have t tokens; `rare` are name, length and requests of others.

    No length is both.
    """

    names: tuple[str | None, ...]
    usual: Ints
    rare: Rare

    @classmethod
    def of(cls, parts: Sequence[LengthCounts]) -> "LengthTable":
        """All parts together."""
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        place = {name: i for i, name in enumerate(names)}
        usual = np.zeros((len(names), max((part.usual.shape[1] for part in parts), default=0)), dtype=np.int64)
        rare = []
        for part in parts:
            rows = np.array([place[name] for name in part.names], dtype=np.int64)
            for row, own in zip(rows, part.usual, strict=True):
                usual[row, : len(own)] += own
            rare.append((rows[part.rare[0]], *part.rare[1:]))
        row, length, count = _summed(rare)
        elsewhere = (length >= 0) & (length < usual.shape[1])  # rare in one part, usual in another
        usual[row[elsewhere], length[elsewhere]] += count[elsewhere]
        return cls(names, usual, (row[~elsewhere], length[~elsewhere], count[~elsewhere]))

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


def _summed(rare: Sequence[Rare]) -> Rare:
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
