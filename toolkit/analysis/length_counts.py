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
Rare = tuple[Ints, Ints]
USUAL = 2**14  # lengths below it may have a place in the table
LARGEST_TABLE = 2**21  # places
COVERED = 0.99  # of a part's requests have a place: the smaller the table, the nearer it is to the core
ASKED = 2**14  # requests whose lengths tell how wide that is
UNKNOWN = np.int32(-(2**31))
EMPTY = np.zeros(0, dtype=np.int64)
PLACE = 2**32  # keys of what is rare are place · PLACE + length, lengths from UNKNOWN on counted from 0


@dataclass(frozen=True)
class LengthCounts:
    """A part: `usual[m, t]` requests of the m-th name have t tokens; `rare` are keys of others, and their requests."""

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
            rare.append(number[long].astype(np.int64) * PLACE + (own[long].astype(np.int64) - UNKNOWN))
            usual += number * np.uint32(wide)
            cell[:] = usual
        table = np.bincount(cells, minlength=(model.most + 1) * wide).reshape(-1, wide)
        found, _ = model.counted
        key, count = _counted_keys(rare)
        key = np.searchsorted(found, key // PLACE) * PLACE + key % PLACE
        return cls(tuple(model.names()), table[found, :-1].astype(np.uint32), (key, count))


def _covering(length: NDArray[np.int32]) -> int:
    """How many lengths from 0 on most of these are among."""
    asked = length[:: max(1, len(length) // ASKED)]
    return int(np.clip(np.quantile(asked, COVERED, method="higher") + 1, 0, USUAL)) if len(asked) else 0


@dataclass(frozen=True)
class LengthTable:
    """All parts: `usual[m, t]` requests of the m-th name have t tokens; `rare` are keys of others, and their requests.

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
            key, count = part.rare
            row, length = key // PLACE, key % PLACE + UNKNOWN
            here = (length >= 0) & (length < usual.shape[1])  # usual in another part
            usual[rows[row[here]], length[here]] += count[here]
            rare.append((rows[row[~here]] * PLACE + key[~here] % PLACE, count[~here]))
        keys, counts = (np.concatenate([EMPTY, *each]) for each in zip(*rare, strict=True)) if rare else (EMPTY, EMPTY)
        return cls(names, usual, _summed(keys, counts))

    @cached_property
    def all(self) -> Counted:
        """The lengths of all requests."""
        return _counted(self.usual.sum(axis=0), *_summed(self.rare[0] % PLACE, self.rare[1]))

    def of_name(self, name: str | None) -> Counted:
        """The lengths of one name's requests."""
        if name not in self.names:
            return Counted(np.zeros(0), np.zeros(0, dtype=np.int64))
        place = self.names.index(name)
        own = slice(*np.searchsorted(self.rare[0], [place * PLACE, (place + 1) * PLACE]))
        return _counted(self.usual[place], self.rare[0][own] % PLACE, self.rare[1][own])


def _counted_keys(keys: Sequence[Ints]) -> Rare:
    """Each key once, and how often it was there."""
    ordered = np.sort(np.concatenate([EMPTY, *keys]))
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[first], np.diff(first, append=len(ordered))


def _summed(keys: Ints, counts: Ints) -> Rare:
    """Each key once, with all its requests."""
    order = np.argsort(keys, kind="stable")  # which merges what is in order already
    ordered = keys[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[first], np.add.reduceat(counts[order], first) if len(first) else counts


def _counted(usual: Ints, keys: Ints, counts: Ints) -> Counted:
    """Lengths, the usual ones and those with keys that ascend."""
    found, lengths = np.flatnonzero(usual), keys + UNKNOWN
    below = np.searchsorted(lengths, 0)  # what is negative comes first
    together = np.concatenate([lengths[:below], found, lengths[below:]])
    return Counted(together.astype(np.float64), np.concatenate([counts[:below], usual[found], counts[below:]]))
