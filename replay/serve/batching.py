"""The served engine: what the compiled simulation does in virtual time, a step at a time."""

from collections.abc import Callable
from dataclasses import dataclass

from replay.planning.jobs import Job, Part
from replay.planning.memory import Memory, Numbers
from replay.planning.planner import Planner
from replay.planning.rules import Rules
from replay.simulation.setup import Limits

Parts = list[Part]
Emit = Callable[[Job], None]


@dataclass(frozen=True)
class Step:
    """One iteration: who computes how many tokens, and how long it takes."""

    parts: Parts
    duration_s: float


class Batching:
    """One engine, first come first served within a priority (`rank`); whoever waits for tokens hears of each."""

    def __init__(self, limits: Limits, duration_s: Callable[[Parts], float]):
        self.limits, self._duration_s = limits, duration_s
        self.memory = Memory(Numbers(limits.kv_blocks), limits.block_tokens, caching=limits.prefix_caching)
        self._planner = Planner(limits, Rules(), self.memory)
        self._hears: dict[Job, Emit] = {}

    @property
    def running(self) -> list[Job]:
        return self._planner.running

    @property
    def waiting(self) -> int:
        return len(self._planner.line)

    @property
    def preemptions(self) -> int:
        return self._planner.preemptions

    def submit(self, job: Job, emit: Emit) -> None:
        self._hears[job] = emit
        self._planner.arrive(job, job.arrival_s)

    def cancel(self, job: Job) -> None:
        """Forget a job whose client has gone."""
        del self._hears[job]
        drop = self._planner.end if job in self.running else self._planner.give_up
        drop(job, job.arrival_s, "cancelled")

    def begin(self, now_s: float) -> Step | None:
        """Choose the next step's batch; null when there is nothing to do."""
        parts = self._planner.plan(now_s)
        return Step(parts, self._duration_s(parts)) if parts else None

    def end(self, step: Step, now_s: float) -> None:
        """The step is over: its tokens are there, and whoever waits for them hears."""
        whole = [job for job, tokens in step.parts if tokens == job.to_compute]
        self._planner.take_in(step.parts, now_s)
        for job in whole:
            if job in self._hears:
                emit = self._hears.pop(job) if job.ended else self._hears[job]
                emit(job)
