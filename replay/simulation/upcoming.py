"""Whom a scheduler that observes is to rank: who waits or runs, and who may arrive before it observes again.

A turn that waits for its parent is among the latter if it can arrive by then: not before its parent's end, and its
think time after that. So of sessions that have not begun, or think for long, no turn is looked at again and again.
"""

from collections.abc import Callable
from functools import cached_property, reduce

import numpy as np
import polars as pl

from replay.simulation.calling import bound
from replay.simulation.compiled import called, entry
from replay.simulation.state import FINISHED, I32, I64, NEVER, NONE, PENDING, PS, REJECTED, State

FEW = 8  # so many slices put together take less time than gathering rows, for which polars wakes its threads


@entry
def open_turns(state, ended, turns, count):
    """Add the turns that waited for `ended` to the first `count` of `turns`, and drop what has ended; how many."""
    for position in range(ended.size):
        turn = np.int64(state.requests[ended[position]].first_child)
        while turn != NONE:
            turns[count] = turn
            count += 1
            turn = np.int64(state.requests[turn].next_child)
    kept = 0
    for position in range(count):
        if state.requests[turns[position]].status not in (FINISHED, REJECTED):
            turns[kept] = turns[position]
            kept += 1
    return kept


@called
def foresee(state, parent, ends, until, found, arrivals, count):
    """Add to `found` the turns that follow a request and can arrive before `until` if it ends at `ends`; how many."""
    head, earliest = count, ends
    while True:
        turn = np.int64(state.requests[parent].first_child)
        while turn != NONE:
            think = np.int64(state.requests[turn].think)
            if think < until - earliest:
                found[count], arrivals[count] = turn, earliest + think
                count += 1
            turn = np.int64(state.requests[turn].next_child)
        if head == count:
            return count
        parent, earliest = np.int64(found[head]), np.int64(arrivals[head])
        arrivals[head] = 0  # what a later arrival adds to its rank is added when it comes
        head += 1


@entry
def gather_upcoming(state, by_clock, fresh, turns, since, now, until, everything, found, arrivals):
    """Fill `found` with who is to be ranked at `now`, and `arrivals` with when they arrive, 0 for turns to come.

    Of `by_clock` only those from position `fresh` on, of `turns` only those to come or arrived after `since`, unless
    `everything` is to be ranked.
    """
    count = 0
    for position in range(by_clock.size):
        r = np.int64(by_clock[position])
        q = state.requests[r]
        if q.status not in (FINISHED, REJECTED):
            if everything or position >= fresh:
                found[count], arrivals[count] = r, q.arrival
                count += 1
            if q.first_child != NONE:
                count = foresee(state, r, max(now, np.int64(q.arrival)), until, found, arrivals, count)
    for position in range(turns.size):
        r = np.int64(turns[position])
        q = state.requests[r]
        if q.arrival < until:
            if everything or q.status == PENDING or q.arrival >= since:
                found[count], arrivals[count] = r, 0 if q.status == PENDING else q.arrival
                count += 1
            if q.first_child != NONE:
                count = foresee(state, r, max(now, np.int64(q.arrival)), until, found, arrivals, count)
    return count


class Upcoming:
    """Finds them, with their rows of `trace`, each time that a scheduler observes."""

    def __init__(self, trace: pl.DataFrame, state: State):
        self._trace, self._state = trace, state
        self._arrival_at = trace.get_column_index("arrival_s")
        requests = state.requests.view(np.ndarray)  # reading a record array's field costs more
        waits = requests["think"] >= 0
        self._status, self._by_clock = requests["status"], np.flatnonzero(~waits)
        self._by_clock_ps = requests["arrival"][self._by_clock]
        self._turns, self._open = np.empty(int(waits.sum()), np.int64), 0  # the first may come, or have and not ended
        self._found, self._arrivals = np.empty(len(trace), np.int64), np.empty(len(trace), np.int64)
        self._oldest = self._near = self._ranked = self._since = 0

    def compile(self) -> None:
        """Let all of this be compiled, or loaded, now."""
        _ = self._gather, self._open_turns

    def next_by_clock(self, time: int) -> int:
        """When the first request that waits for no other arrives, at `time` or later; picoseconds, NEVER if none."""
        at = int(np.searchsorted(self._by_clock_ps, time))
        return int(self._by_clock_ps[at]) if at < len(self._by_clock_ps) else int(NEVER)

    def __call__(self, ended: I32, now: int, until: int, *, everything: bool) -> tuple[I64, pl.DataFrame]:
        """(Request numbers, ascending; rows of the trace with when they arrive, 0 for turns that have not come).

        `ended` is what has ended since the last time. Unless `everything` is to be ranked, only who has arrived since
        then or may come before `until`.
        """
        since, self._since = self._since, now
        first = self._ranked  # of who was ranked before, only the turns that follow are wanted
        if len(self._turns):
            self._open = self._open_turns(ended, self._turns, self._open)
        if everything or len(self._turns):
            first = self._oldest = self._unended()
        fresh, self._ranked = self._ranked - first, self._near
        self._near = int(np.searchsorted(self._by_clock_ps, until))
        by_clock, turns = self._by_clock[first : self._near], self._turns[: self._open]
        count = self._gather(by_clock, fresh, turns, since, now, until, everything, self._found, self._arrivals)
        found, arrivals = self._found[:count].copy(), self._arrivals[:count] / PS
        if len(self._turns):
            ascending = np.argsort(found)
            found, arrivals = found[ascending], arrivals[ascending]
        if not count:
            return found, self._trace[:0]
        return found, _rows(self._trace, found).replace_column(self._arrival_at, pl.Series("arrival_s", arrivals))

    def _unended(self) -> int:
        """The first place of those that wait for no other whose request has not ended, of all that have been near."""
        place = self._oldest
        while place < self._near and self._status[self._by_clock[place]] in (FINISHED, REJECTED):
            place += 1
        return place

    @cached_property
    def _open_turns(self) -> Callable[[I32, I64, int], int]:
        return bound(open_turns, self._state, like=(np.zeros(0, np.int32), np.zeros(0, np.int64), 0))

    @cached_property
    def _gather(self) -> Callable[[I64, int, I64, int, int, int, bool, I64, I64], int]:
        none = np.zeros(0, np.int64)
        return bound(gather_upcoming, self._state, like=(none, 0, none, 0, 0, 0, True, none, none))


def _rows(table: pl.DataFrame, ascending: I64) -> pl.DataFrame:
    """The rows of `table` with these numbers, at least one."""
    ends = [*np.flatnonzero(ascending[1:] - ascending[:-1] != 1).tolist(), len(ascending) - 1]
    if len(ends) > FEW:
        return table[ascending]
    begins = [0, *(end + 1 for end in ends)]
    pieces = [table.slice(int(ascending[a]), b - a + 1) for a, b in zip(begins, ends, strict=False)]
    return reduce(pl.DataFrame.vstack, pieces)
