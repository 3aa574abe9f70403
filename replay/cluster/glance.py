"""What stands at each model, gathered over its engines and its requests: a placement is shown it at every decision."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.cluster.setup import SLOTS
from replay.simulation.calling import bound
from replay.simulation.compiled import entry
from replay.simulation.state import F64, FINISHED, I64, NEVER, PS, REJECTED, WAITING, Records, State


class Seen(NamedTuple):
    """Arrays over models."""

    waiting: I64  # requests
    running: I64
    prefilled: I64  # tokens
    emitted: I64
    oldest_s: F64  # arrival of the request that waits longest; NaN: none waits


@entry
def look(settings, state, ids, ends, ended, seen):
    """Fill `seen`. Model m's requests are `ids` up to ends[m], of which the first, up to ended[m], have ended and are
    never looked at again. They are in the order of arrival, but for turns that wait for another.
    """
    begin = np.int64(0)
    for m in range(ends.size):
        seen.waiting[m] = seen.running[m] = seen.prefilled[m] = seen.emitted[m] = 0
        for e in range(m * SLOTS, (m + 1) * SLOTS):
            engine = state.instances[e]
            seen.waiting[m] += engine.waiting
            seen.running[m] += engine.running
            seen.prefilled[m] += engine.prefilled
            seen.emitted[m] += engine.emitted
        at, left, first = max(begin, ended[m]), seen.waiting[m], NEVER
        begin = ends[m]
        while left > 0 and at < ends[m] and state.requests[ids[at]].status in (FINISHED, REJECTED):
            at += 1
        ended[m] = at
        while left > 0 and at < ends[m]:
            request = state.requests[ids[at]]
            if request.status == WAITING:
                first = min(first, request.arrival)
                left = left - 1 if settings[0].closed else np.int64(0)
            at += 1
        seen.oldest_s[m] = first / PS if seen.waiting[m] > 0 else np.nan


class Glance:
    """Looks at `models` models, of which model_of[request] is asked."""

    def __init__(self, settings: Records, state: State, model_of: NDArray[np.integer[Any]], models: int):
        self._settings, self._state = settings, state
        self._ids = np.argsort(model_of, kind="stable")
        self._ends = np.cumsum(np.bincount(model_of, minlength=models))
        self._ended = np.zeros(models, np.int64)
        waiting, running, prefilled, emitted = np.zeros((4, models), np.int64)
        self._seen = Seen(waiting, running, prefilled, emitted, np.zeros(models))

    def __call__(self) -> Seen:
        """What stands now, in arrays of its own."""
        self._look()
        waiting, running, prefilled, emitted, oldest_s = self._seen
        return Seen(waiting.copy(), running.copy(), prefilled.copy(), emitted.copy(), oldest_s.copy())

    @cached_property
    def _look(self) -> Callable[[], None]:
        return bound(look, self._settings, self._state, self._ids, self._ends, self._ended, self._seen, like=())
