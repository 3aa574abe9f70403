"""What a scheduler that observes is shown of what has ended.

It is shown often, and a few requests at a time: they are gathered in compiled code, and the frame is made the way that
takes least.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from replay.simulation.calling import bound
from replay.simulation.compiled import entry
from replay.simulation.state import F64, FINISHED, I32, PS, State

SHOWN = (
    *("request_id", "arrival_s", "start_s", "first_token_s", "finish_s"),
    *("prompt_tokens", "output_tokens", "preemptions", "status"),
)


@entry
def gather_ended(state, ended, times_s, counts):
    """Fill the rows of `times_s` and `counts` with the columns SHOWN; how many of `ended` finished."""
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


class Ended:
    """Shows requests of one replay that have ended."""

    def __init__(self, state: State):
        self._state = state

    def compile(self) -> None:
        """Let all of this be compiled, or loaded, now."""
        self(self._state.done[:0])

    def __call__(self, ended: I32) -> pl.DataFrame:
        """OUTCOMES' times, lengths, preemptions and status of these requests. Times of a rejected request are NaN."""
        import pyarrow as pa  # here, since few replays need it

        count = len(ended)
        times_s, counts = np.empty((4, count)), np.empty((3, count), np.int32)
        finished = self._gather(ended, times_s, counts)
        status = self._ok[:count] if finished == count else pa.array(np.where(np.isnan(times_s[3]), "rejected", "ok"))
        columns = [pa.array(ended.astype(np.int64)), *map(pa.array, times_s), *map(pa.array, counts), status]
        # Column by column, or from NumPy's arrays, it takes three times as long.
        return pl.DataFrame(pa.RecordBatch.from_arrays(columns, names=SHOWN))

    @cached_property
    def _ok(self) -> Any:
        """The status of all of them, if all finish."""
        import pyarrow as pa

        return pa.repeat("ok", len(self._state.requests))

    @cached_property
    def _gather(self) -> Callable[[I32, F64, I32], int]:
        like = (np.zeros(0, np.int32), np.zeros((4, 0)), np.zeros((3, 0), np.int32))
        return bound(gather_ended, self._state, like=like)
