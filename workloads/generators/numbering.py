"""Request numbers over all windows, and from each turn the number of the one before."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.schema import TRACE

Numbers = NDArray[np.int64]


class Numbering:
    """Counts requests from 0 and remembers the last turn of every session that goes on."""

    def __init__(self) -> None:
        self.next = 0
        self.session: Numbers = np.zeros(0, dtype=np.int64)  # ascending
        self.last: Numbers = np.zeros(0, dtype=np.int64)  # request_id of its last turn so far

    def number(self, window: pl.DataFrame) -> pl.DataFrame:
        """TRACE's columns but for those that nobody has; `window` is in arrival order, `_session` null outside any."""
        ids = np.arange(self.next, self.next + len(window), dtype=np.int64)
        self.next += len(window)
        numbered = window.with_columns(request_id=pl.Series(ids))
        if "_session" in window.columns:
            numbered = numbered.with_columns(parent_id=self._parents(window, ids))
        return numbered.select(name for name in TRACE if name in numbered.columns)

    def _parents(self, window: pl.DataFrame, ids: Numbers) -> pl.Series:
        at = np.flatnonzero(window["_session"].is_not_null().to_numpy())
        session = window["_session"].to_numpy()[at].astype(np.int64)
        turn, turns = (window[name].to_numpy()[at].astype(np.int64) for name in ("turn", "_turns"))
        order = np.lexsort((turn, session))
        at, session, turn, turns = at[order], session[order], turn[order], turns[order]
        parent = np.full(len(window), -1, dtype=np.int64)
        same = session[1:] == session[:-1]
        parent[at[1:][same]] = ids[at[:-1][same]]
        earlier = np.ones(len(at), dtype=bool)
        earlier[1:] = ~same
        earlier &= turn > 0
        parent[at[earlier]] = self.last[np.searchsorted(self.session, session[earlier])]
        self._remember(session, ids[at], turn + 1 < turns)
        found = pl.Series("parent_id", parent)
        return found.set(found < 0, None)

    def _remember(self, session: Numbers, ids: Numbers, going: NDArray[np.bool_]) -> None:
        """Keep one number for each session with turns to come."""
        final = np.append(session[1:] != session[:-1], True)[: len(session)]
        kept = ~np.isin(self.session, session)
        sessions = np.concatenate([self.session[kept], session[final & going]])
        last = np.concatenate([self.last[kept], ids[final & going]])
        order = np.argsort(sessions)
        self.session, self.last = sessions[order], last[order]
