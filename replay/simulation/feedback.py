"""Where a scheduler is asked during a replay: to observe what has ended, and to order a queue as a whole."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.simulation.calling import bound
from replay.simulation.ended import Ended
from replay.simulation.horizon import LONGEST_S
from replay.simulation.policies import checked_ranks, curve_of, observes, offsets_of, orders, predictions
from replay.simulation.reorder import rerank
from replay.simulation.state import F64, I64, NEVER, NONE, PS, Records, State
from replay.simulation.upcoming import Upcoming
from toolkit.errors import SettingFailure
from toolkit.protocols import Scheduler


class Queue:
    """The requests that wait at one instance (protocols.Waiting)."""

    def __init__(self, columns: "Columns", ids: I64):
        self._columns, self._ids = columns, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name == "arrival_s":
            return self._columns[name][self._ids] / PS
        return self._columns[name][self._ids]


class Columns:
    """A trace's columns as NumPy arrays, made when first asked for; texts as small integers, null -1.

    Arrivals (here in picoseconds) and `served` are the simulation's own.
    """

    def __init__(self, trace: pl.DataFrame, requests: Records):
        self._trace = trace
        self._made: dict[str, NDArray[Any]] = {"arrival_s": requests["arrival"], "served": requests["produced"]}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._made:
            column = self._trace[name]
            if column.dtype == pl.String:
                column = column.rank("dense").cast(pl.Int64).fill_null(0) - 1
            self._made[name] = column.to_numpy()
        return self._made[name]


def _permutes(chosen: NDArray[Any], count: int) -> bool:
    """Whether `chosen` holds each of the numbers below `count` once."""
    if chosen.shape != (count,) or chosen.dtype.kind not in "iu":
        return False
    return bool((np.sort(chosen) == np.arange(count)).all())


def _interval(scheduler: Any) -> int:
    """Picoseconds between two observations; NEVER where there are none."""
    if not observes(scheduler):
        return int(NEVER)
    every_s = getattr(scheduler, "observe_every_s", None)
    if not isinstance(every_s, int | float) or not every_s * PS >= 1:
        hint = "a policy that observes has it: seconds, above 0"
        raise SettingFailure(f"observe_every_s is {every_s}", where=type(scheduler).__name__, hint=hint)
    return round(every_s * PS) if every_s < LONGEST_S else int(NEVER)


class Feedback:
    """Asks one scheduler during one replay. `pause` is when it wants to observe next, in picoseconds."""

    def __init__(self, scheduler: Scheduler, trace: pl.DataFrame, settings: Records, state: State):
        self.scheduler = cast(Any, scheduler)  # it may have members that the protocol leaves optional
        # Plain views of the records: reading a record array's field costs more than the rest of a question.
        self._requests, self._instances, self._world = (
            records.view(np.ndarray) for records in (state.requests, state.instances, state.world)
        )
        self._settings, self._state, self._trace = settings, state, trace
        self._queue, self._columns = state.queue, Columns(trace, self._requests)
        self._every, self._seen = _interval(self.scheduler), 0
        self.pause = self._every

    @property
    def resumable(self) -> bool:
        """Whether a checkpoint holds all there is: a scheduler that is asked has a memory of its own."""
        return self._every == NEVER and not orders(self.scheduler)

    def order(self) -> None:
        """Ask for the order of the queue the core has stopped at."""
        ids = self._queue[: self._world["asked"][0]].copy()
        now_s = self._instances["clock"][self._world["asking"][0]] / PS
        chosen = np.asarray(self.scheduler.order(Queue(self._columns, ids), now_s))
        if not _permutes(chosen, len(ids)):
            raise SettingFailure(
                f"order() gave no permutation of {len(ids)} requests", where=type(self.scheduler).__name__
            )
        self._queue[: len(ids)] = ids[chosen]

    def compile(self) -> None:
        """Let what is needed between two moves be compiled, or loaded, now."""
        if self._every != NEVER:
            _ = self._rerank
            self._ended.compile()
            self._upcoming.compile()

    @cached_property
    def _ended(self) -> Ended:
        return Ended(self._state)

    @cached_property
    def _upcoming(self) -> Upcoming:
        return Upcoming(self._trace, self._state)

    @cached_property
    def _rerank(self) -> Callable[[I64, F64, bool], None]:
        return bound(rerank, self._settings, self._state, like=(np.zeros(0, np.int64), np.zeros(0), True))

    def observe(self) -> None:
        """Show what has ended since the last time, and rank again what has not, or what is new.

        When nothing has ended only what is new is ranked, by what has been learnt since the replay began.
        """
        ended = self._state.done[self._seen : int(self._world["done"][0])]
        self._seen += len(ended)
        now, self.pause = self.pause, self._next_time()
        everything = False
        if len(ended):
            everything = self.scheduler.observe(self._ended(ended), now / PS) is not False
        if everything:
            self._take_offsets()
        upcoming, rows = self._upcoming(ended, now, self.pause, everything=everything)
        if len(upcoming):
            self._rerank(upcoming, checked_ranks(self.scheduler, rows, now / PS), everything)

    def _next_time(self) -> int:
        """The next time to observe; while nobody is served or waits, the last such time before somebody comes."""
        following = self.pause + self._every
        if (self._instances["running"] + self._instances["waiting"]).any():
            return following
        released, by_clock = self._arrival(self._world["released"][0]), self._upcoming.next_by_clock(self.pause)
        nearest = min(released, by_clock)
        return following if nearest == NEVER else following + max(0, nearest - following) // self._every * self._every

    def _arrival(self, request: int) -> int:
        return int(NEVER) if request == NONE else int(self._requests["arrival"][request])

    def _take_offsets(self) -> None:
        offsets = offsets_of(curve_of(self.scheduler))
        if offsets.shape != self._state.offsets.shape:
            raise SettingFailure("observe() changed the boundaries", where=type(self.scheduler).__name__)
        self._state.offsets[...] = offsets

    def late(self, clock: int) -> None:
        """Put the next observation off to the last of its times that `clock` has passed: a batch cannot be stopped."""
        self.pause += max(0, clock - self.pause) // self._every * self._every

    def with_predictions(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        """OUTCOMES rows with the output tokens that the scheduler expected, where it says."""
        if not callable(getattr(self.scheduler, "predicted", None)):
            return outcomes
        expected = predictions(self.scheduler, outcomes["request_id"].to_numpy())
        rounded = pl.Series(np.clip(expected, 0, np.iinfo(np.int32).max).round(), nan_to_null=True)
        return outcomes.with_columns(predicted_output_tokens=rounded.cast(pl.Int32))
