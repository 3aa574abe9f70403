"""What a scheduler that observes is shown: what has ended, and whom it is to rank.

It is shown them often and a few at a time, so both are gathered in compiled code, and the frames are made the way that
takes least.
"""

from collections.abc import Callable
from functools import cached_property, reduce
from typing import Any

import numpy as np
import polars as pl

from replay.simulation.calling import bound
from replay.simulation.compiled import entry
from replay.simulation.state import F64, FINISHED, I32, I64, PENDING, PS, REJECTED, State

ENDED = (
    *("request_id", "arrival_s", "start_s", "first_token_s", "finish_s"),
    *("prompt_tokens", "output_tokens", "preemptions", "status"),
)
FEW = 8  # so many slices put together take less time than gathering rows, for which polars wakes its threads


@entry
def gather_ended(state, ended, times_s, counts):
    """Fill the rows of `times_s` and `counts` with the columns of OUTCOMES; how many of `ended` finished."""
    finished = 0
    for position in range(ended.size):
        q = state.requests[ended[position]]
        times_s[0, position] = q.arrival / PS
        counts[0, position], counts[1, position], counts[2, position] = q.prompt, q.produced, q.preemptions
        if q.status == FINISHED:
            finished += 1
            times_s[1, position] = q.start / PS
            times_s[2, position] = q.first / PS
            times_s[3, position] = q.finish / PS
        else:
            times_s[1, position] = times_s[2, position] = times_s[3, position] = np.nan
    return finished


@entry
def gather_live(state, by_clock, turns, live, arrival_s):
    """Fill `live` with those of two ascending lists that have not ended, ascending, and `arrival_s`; how many.

    A turn that has not come yet arrives at 0: what a later arrival adds to its rank is added when it does.
    """
    a = b = found = 0
    while a < by_clock.size or b < turns.size:
        if b == turns.size or (a < by_clock.size and by_clock[a] < turns[b]):
            r = by_clock[a]
            a += 1
        else:
            r = turns[b]
            b += 1
        q = state.requests[r]
        if q.status != FINISHED and q.status != REJECTED:
            live[found] = r
            arrival_s[found] = 0.0 if q.think >= 0 and q.status == PENDING else q.arrival / PS
            found += 1
    return found


class Shown:
    """Shows the requests of one replay of `trace`."""

    def __init__(self, trace: pl.DataFrame, state: State):
        self._trace, self._state = trace, state
        self._arrival_at = trace.get_column_index("arrival_s")

    def compile(self) -> None:
        """Let all of this be compiled, or loaded, now."""
        _ = self._live
        self.ended(self._state.done[:0])

    def ended(self, ended: I32) -> pl.DataFrame:
        """OUTCOMES' times, lengths, preemptions and status of these requests. Times of a rejected request are NaN."""
        import pyarrow as pa  # here, since few replays need it

        count = len(ended)
        times_s, counts = np.empty((4, count)), np.empty((3, count), np.int32)
        finished = self._ended(ended, times_s, counts)
        status = self._ok[:count] if finished == count else pa.array(np.where(np.isnan(times_s[3]), "rejected", "ok"))
        columns = [pa.array(ended.astype(np.int64)), *map(pa.array, times_s), *map(pa.array, counts), status]
        # Column by column, or from NumPy's arrays, it takes three times as long.
        return pl.DataFrame(pa.RecordBatch.from_arrays(columns, names=ENDED))

    def live(self, by_clock: I64, turns: I64) -> tuple[I64, pl.DataFrame]:
        """(Those of two ascending lists that have not ended, the trace's rows of them with when they arrive)."""
        most = len(by_clock) + len(turns)
        live, arrival_s = np.empty(most, np.int64), np.empty(most)
        count = self._live(by_clock, turns, live, arrival_s)
        if not count:
            return live[:0], self._trace[:0]
        rows = _rows(self._trace, live[:count])
        return live[:count], rows.replace_column(self._arrival_at, pl.Series("arrival_s", arrival_s[:count]))

    @cached_property
    def _ok(self) -> Any:
        """The status of all of them, if all finish."""
        import pyarrow as pa

        return pa.repeat("ok", len(self._trace))

    @cached_property
    def _ended(self) -> Callable[[I32, F64, I32], int]:
        like = (np.zeros(0, np.int32), np.zeros((4, 0)), np.zeros((3, 0), np.int32))
        return bound(gather_ended, self._state, like=like)

    @cached_property
    def _live(self) -> Callable[[I64, I64, I64, F64], int]:
        none = np.zeros(0, np.int64)
        return bound(gather_live, self._state, like=(none, none, none, np.zeros(0)))


def _rows(table: pl.DataFrame, ascending: I64) -> pl.DataFrame:
    """The rows of `table` with these numbers, at least one."""
    ends = [*np.flatnonzero(ascending[1:] - ascending[:-1] != 1).tolist(), len(ascending) - 1]
    if len(ends) > FEW:
        return table[ascending]
    begins = [0, *(end + 1 for end in ends)]
    pieces = [table.slice(int(ascending[a]), b - a + 1) for a, b in zip(begins, ends, strict=False)]
    return reduce(pl.DataFrame.vstack, pieces)
