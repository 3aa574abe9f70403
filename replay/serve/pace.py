"""Runs the engine's steps at their instants: a simulated second takes `time_scale` real ones."""

import asyncio
import time

from replay.http import pacing
from replay.planning.jobs import Job
from replay.serve.batching import Batching, Emit, Step

BEHIND_S = 0.5  # beyond this, time that was lost is not caught up


class Pace:
    """Starts a step when there is work and ends it when its time has come, counted from the end of the one before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Batching, time_scale: float):
        self.engine, self._scale = engine, time_scale
        self._alarm = pacing.alarm(loop, self._ring)
        self._step: Step | None = None
        self._end_s = 0.0
        self.steps = self.late = 0

    def submit(self, job: Job, emit: Emit) -> None:
        self.engine.submit(job, emit)
        if self._step is None:
            self._begin(time.monotonic())

    def close(self) -> None:
        self._alarm.close()

    def _begin(self, from_s: float) -> None:
        self._step = self.engine.begin(from_s)
        if self._step is not None:
            self._end_s = from_s + self._step.duration_s * self._scale
            self._alarm.set(self._end_s)

    def _ring(self) -> None:
        step, end_s = self._step, self._end_s
        if step is None:
            return
        now_s = time.monotonic()
        if now_s > end_s + BEHIND_S:
            end_s, self.late = now_s, self.late + 1
        self._step = None
        self.steps += 1
        self.engine.end(step, end_s)
        self._begin(end_s)
