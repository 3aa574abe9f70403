"""Continuous batching a step at a time, in plain Python: what the compiled simulation does in virtual time."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from replay.serve.jobs import Job
from replay.serve.memory import Memory
from replay.simulation.setup import Limits

Parts = list[tuple[Job, int]]  # who computes how many tokens


@dataclass(frozen=True)
class Step:
    """One iteration: who computes how many tokens, and how long it takes."""

    parts: Parts
    duration_s: float


class Batching:
    """One engine: running first, then waiting by priority, within a token budget, as vLLM does."""

    def __init__(self, limits: Limits, duration_s: Callable[[Parts], float]):
        self.limits, self._duration_s = limits, duration_s
        self.memory = Memory(limits.kv_blocks, limits.block_tokens, caching=limits.prefix_caching)
        self.running: list[Job] = []
        self._waiting: list[tuple[tuple[int, float, int], Job]] = []
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        heapq.heappush(self._waiting, (job.rank, job))

    def cancel(self, job: Job) -> None:
        """Forget a job whose client has gone."""
        if job in self.running:
            self.running.remove(job)
            self.memory.release(job)
        else:
            self._waiting = [entry for entry in self._waiting if entry[1] is not job]
            heapq.heapify(self._waiting)

    def begin(self, now_s: float) -> Step | None:
        """Choose the next step's batch; null when there is nothing to do."""
        budget = self.limits.max_num_batched_tokens
        parts: Parts = []
        for job in list(self.running):
            tokens = min(job.to_compute, budget)
            if tokens and job in self.running and self._room(job, tokens):
                parts.append((job, tokens))
                budget -= tokens
        parts = [(job, tokens) for job, tokens in parts if job in self.running]
        while budget and self._waiting and len(self.running) < self.limits.max_num_seqs:
            job = self._waiting[0][1]
            tokens = self._admit(job, budget)
            if not tokens:
                break
            heapq.heappop(self._waiting)
            job.start_s = now_s if job.start_s is None else job.start_s
            self.running.append(job)
            parts.append((job, tokens))
            budget -= tokens
        return Step(parts, self._duration_s(parts)) if parts else None

    def _admit(self, job: Job, budget: int) -> int:
        """Tokens of a waiting job that the next step computes; 0 where there is no room."""
        self.memory.begin(job)
        tokens = min(job.to_compute, budget)
        if not self.memory.grow(job, tokens):
            self.memory.release(job)
            return 0
        if job.start_s is None:
            job.cached = job.computed
        return tokens

    def _room(self, job: Job, tokens: int) -> bool:
        """Make room for a running job, others losing their place for it from the last; false where it lost its own."""
        while not self.memory.grow(job, tokens):
            victim = max(self.running, key=lambda j: j.rank)
            self._preempt(victim)
            if victim is job:
                return False
        return True

    def _preempt(self, job: Job) -> None:
        self.running.remove(job)
        self.memory.release(job)
        job.preemptions += 1
        self.preemptions += 1
        self.submit(job)

    def end(self, step: Step, now_s: float) -> None:
        """The step is over: its tokens are there, and whoever waits for them hears."""
        for job, tokens in step.parts:
            if job not in self.running:
                continue  # cancelled meanwhile
            whole = tokens == job.to_compute
            job.computed += tokens
            self.memory.share(job)
            if whole:
                job.produced += 1
                job.first_token_s = now_s if job.first_token_s is None else job.first_token_s
                if job.ended:
                    self.running.remove(job)
                    self.memory.release(job)
                job.emit(job)
