"""Request numbers over all windows, and from each turn the number of the one before."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.schema import TRACE

Numbers = NDArray[np.int64]


def turns_of(window: pl.DataFrame) -> pl.DataFrame | None:
    """A window's rows in sessions: row, session, turn, and how many turns there are; null where nobody has any."""
    if "_session" not in window.columns:
        return None
    turns = window.select(row=pl.int_range(pl.len()), session="_session", turn="turn", turns="_turns")
    return turns.drop_nulls("session")


def numbered(window: pl.DataFrame, first: int, parents: Numbers | None) -> pl.DataFrame:
    """A window's columns of TRACE with its requests' numbers from `first` on, and those that its turns follow."""
    ids = pl.int_range(first, first + len(window), dtype=pl.Int64, eager=True)
    found = window.with_columns(request_id=ids)
    turns = turns_of(window)
    if turns is not None and parents is not None:
        parent = np.full(len(window), -1, dtype=np.int64)
        parent[turns["row"].to_numpy()] = parents
        column = pl.Series("parent_id", parent)
        found = found.with_columns(column.set(column < 0, None))
    return found.select(name for name in TRACE if name in found.columns)


class Numbering:
    """Counts requests from 0 and remembers the last turn of every session that goes on."""

    def __init__(self) -> None:
        self.next = 0
        self.session: Numbers = np.zeros(0, dtype=np.int64)  # ascending
        self.last: Numbers = np.zeros(0, dtype=np.int64)  # request_id of its last turn so far

    def number(self, window: pl.DataFrame) -> pl.DataFrame:
        """`numbered`, the next numbers; `window` is in arrival order, `_session` null outside any."""
        first = self.next
        return numbered(window, first, self.parents(turns_of(window), len(window)))

    def parents(self, turns: pl.DataFrame | None, requests: int) -> Numbers | None:
        """What comes before each of a window's `turns_of`, −1 for nothing; the window has so many requests."""
        first = self.next
        self.next += requests
        if turns is None:
            return None
        table = turns.with_row_index("place").sort("session", "turn")
        place, row, session, turn, of = (table[name].to_numpy().astype(np.int64) for name in table.columns)
        same, parent = session[1:] == session[:-1], np.full(len(row), -1, dtype=np.int64)
        parent[1:][same] = first + row[:-1][same]
        earlier = np.ones(len(row), dtype=bool)
        earlier[1:] = ~same
        earlier &= turn > 0
        parent[earlier] = self.last[np.searchsorted(self.session, session[earlier])]
        self._remember(session, first + row, turn + 1 < of)
        found = np.empty_like(parent)
        found[place] = parent
        return found

    def _remember(self, session: Numbers, ids: Numbers, going: NDArray[np.bool_]) -> None:
        """Keep one number for each session with turns to come."""
        final = np.append(session[1:] != session[:-1], True)[: len(session)]
        kept = ~np.isin(self.session, session)
        sessions = np.concatenate([self.session[kept], session[final & going]])
        last = np.concatenate([self.last[kept], ids[final & going]])
        order = np.argsort(sessions)
        self.session, self.last = sessions[order], last[order]
