"""The scheduler that is in charge of the engine: whose replay was announced last, and what it says of live requests."""

import copy
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np

from replay.engines.transformers_rules import Ruled
from replay.planning.jobs import INFINITE, Job
from replay.planning.line import Line
from replay.planning.rules import Order, Rules
from replay.simulation.state import PS
from replay.vllm import hints
from toolkit import plugins

OTHERS = -(2**40)  # the numbers of requests that belong to no replay begin here
BEFORE_ALL = -1e18


class Charge:
    """Jobs by the engine's names for its requests, and those of them that wait in `line`.

    Before anything is announced, and for requests of others, the engine's own priority decides, and they come first.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self.run: int | None = None
        self.rules = Rules()
        self.line = Line(self.rules)
        self.jobs: dict[str, Job] = {}
        self._live: set[int] = set()
        self._made: list[Job] = []
        self._others = count(OTHERS)
        self._origin_s: float | None = None  # the instant of the trace's second 0
        self._unseen: list[Job] = []  # ended, and not yet observed
        self._observe_s = INFINITE
        self.starts: list[tuple[int, float, float | None, int]] = []

    @property
    def now_s(self) -> float:
        """Seconds of the trace."""
        return 0.0 if self._origin_s is None else self._clock() - self._origin_s

    def hear(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Take in an announcement, or answer what became of a replay's requests; Failure for what cannot be."""
        if hints.SCHEDULER in said:
            self._begin(int(said[hints.RUN]), hints.checked(str(said[hints.SCHEDULER])), str(said[hints.TABLE]))
            return {hints.SCHEDULER: said[hints.SCHEDULER]}
        return {hints.ASK: hints.told(self.starts)} if said.get(hints.RUN) == self.run else {}

    def _begin(self, run: int, spec: str, table: str) -> None:
        trace = hints.trace_of(table)
        think_s = trace["think_s"].to_numpy()
        think = np.where(np.isnan(think_s), -1, np.rint(np.nan_to_num(think_s) * PS)).astype(np.int64)
        ruled = Ruled(plugins.create("scheduler", spec), trace, think)
        self._made = ruled.jobs(np.zeros(len(trace), np.int64).tolist())
        self.run, self._origin_s, self.starts, self._unseen = run, None, [], []
        self._observe_s = ruled.rules.observe_every_s
        left = set(self.line)
        if ruled.rules.order is not None:
            ruled.rules.order = others_first(ruled.rules.order)
        self.rules, self.line, self._live = ruled.rules, Line(ruled.rules), set()
        for name, job in self.jobs.items():
            self.jobs[name] = self._other(job.prompt, job.output, BEFORE_ALL)
            if job in left:
                self.line.put(self.jobs[name], 0.0)

    def _other(self, prompt: int, output: int, rank: float) -> Job:
        return Job(next(self._others), prompt, output, self.now_s, rank=rank)

    def meet(
        self,
        name: str,
        said: Mapping[str, Any],
        prompt: int,
        output: int,
        came: float,
        priority: int,
        cached: int = 0,
    ) -> Job:
        """A request is here that came to the server at the instant `came`; it is not in line yet.

        The cache has `cached` tokens of its prompt, which are no work.
        """
        if (hint := self._hint(said)) is not None:
            job = self._known(*hint, came)
            job.prompt, job.output = prompt, output
        else:
            job = self._other(prompt, output, float(priority) if self.run is None else BEFORE_ALL)
        job.work = self.rules.prompt_work * (prompt - cached)
        self.jobs[name] = job
        if job.number >= 0 and self.rules.arrived is not None:
            self.rules.arrived([job], self.now_s)
        return job

    def _hint(self, said: Mapping[str, Any]) -> tuple[int, float] | None:
        """The number and the intended arrival that a request of this replay says; a number lives once at a time."""
        number, arrival_s = said.get(hints.REQUEST), said.get(hints.ARRIVAL)
        if said.get(hints.RUN) != self.run or not isinstance(number, int) or not isinstance(arrival_s, int | float):
            return None
        return (number, arrival_s) if 0 <= number < len(self._made) and number not in self._live else None

    def _known(self, number: int, arrival_s: float, came: float) -> Job:
        if self._origin_s is None:
            self._origin_s = came - arrival_s
        self._live.add(number)
        job = copy.copy(self._made[number])
        job.times, job.blocks = [], []
        job.arrival_s, job.taken_s = arrival_s, self.now_s
        job.rank += job.rise * arrival_s
        return job

    def starts_to_run(self, job: Job) -> None:
        """It has a place."""
        if job.start_s is None:
            job.start_s = self.now_s
        job.started = 0.0

    def loses(self, job: Job) -> None:
        """It has lost its place; it is not in line yet."""
        job.preemptions += 1
        job.left_s, job.started = self.now_s, 0.0

    def served(self, job: Job, produced: int, computed: int) -> None:
        """A step has brought it this far."""
        if produced > job.produced:
            self.line.served(job, produced - job.produced)
            if not job.times:
                job.times.append(self.now_s)
        job.produced, job.computed = produced, computed
        if produced and not job.started:
            job.started = self.now_s
            self.rules.guard(job)

    def ended(self, name: str, *, ok: bool) -> None:
        """A request has ended; its place in line, if it waits, is taken away by the queue."""
        job = self.jobs.pop(name)
        job.status, job.finish_s = "ok" if ok and job.times else "rejected", self.now_s
        self._live.discard(job.number)
        if job.number >= 0:
            self.starts.append((job.number, job.taken_s or 0.0, job.start_s, job.preemptions))
            if self.rules.observe is not None:
                self._unseen.append(job)

    def tick(self) -> None:
        """Let the scheduler see what has ended, when its time has come; ranks may change by that."""
        now_s = self.now_s
        if now_s < self._observe_s or self.rules.observe is None:
            return
        self._observe_s = now_s + self.rules.observe_every_s
        seen, self._unseen = self._unseen, []
        if seen and self.rules.observe(seen, now_s) and self.rules.arrived is not None:
            self.rules.arrived([job for job in self.jobs.values() if job.number >= 0], now_s)
            self.line.rank_anew()

    def lateness(self, job: Job) -> float:
        """Of those that run, who has the most of it loses its place first."""
        if self.rules.latest:
            return job.started
        if not job.produced:
            return job.order
        if self.rules.holds(job):
            return -INFINITE
        return self.rules.running_rank(job) - self.rules.context_cost * job.computed


def others_first(order: Order) -> Order:
    """The same order, whose scheduler is asked about its own requests alone."""

    def ordered(jobs: list[Job], now_s: float) -> list[int]:
        mine = [n for n, job in enumerate(jobs) if job.number >= 0]
        others = [n for n, job in enumerate(jobs) if job.number < 0]
        return others + ([mine[k] for k in order([jobs[n] for n in mine], now_s)] if mine else [])

    return ordered
