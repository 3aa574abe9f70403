"""One model's continuous batching: running requests first, then waiting ones in rank order, in a token budget.

As replay.simulation.steps has it, after vLLM V1: what decodes has its blocks first, and whoever ranks last loses its
place when there are none. What is left of the budget goes to the prefill that is under way, then to the waiting, each
admitted only when all of its prompt has room. So at most one request is in the middle of its prefill.
"""

import time
from collections.abc import Callable, Sequence

import torch

from replay.torch_engine.forward import Forward
from replay.torch_engine.jobs import Job, Part
from replay.torch_engine.kv import KV
from replay.torch_engine.limits import Limits
from replay.torch_engine.line import Line
from replay.torch_engine.model import Model
from replay.torch_engine.notes import Notes, Step
from replay.torch_engine.rules import Rules


def _anybody(job: Job) -> bool:
    return True


def _nobody(job: Job) -> bool:
    return False


class Engine:
    """Batches the requests of one model; `clock` gives the time on the house's clock."""

    def __init__(self, model: Model, kv: KV, limits: Limits, rules: Rules, notes: Notes, clock: Callable[[], float]):
        self.model, self.kv, self.limits, self.rules, self.notes = model, kv, limits, rules, notes
        self.line, self.running = Line(rules), list[Job]()
        self.prefilled = self.emitted = 0  # tokens
        self._forward, self._clock = Forward(model, kv), clock

    def rule(self, rules: Rules) -> None:
        """Let another scheduler decide; nobody may be waiting."""
        self.rules, self.line = rules, Line(rules)

    @property
    def longest(self) -> int:
        """Tokens, prompt and output together, that a request may have."""
        return self.limits.max_model_len or int(self.model.config.max_position_embeddings)

    def refusal(self, job: Job, most_blocks: int) -> str | None:
        """Why a request can never be served."""
        if job.prompt < 1 or job.output < 1:
            return "asks for no prompt or no output tokens"
        if job.prompt + job.output > self.longest:
            return f"{job.prompt + job.output} tokens exceed max_model_len {self.longest}"
        need = self.kv.blocks_for(job.prompt + job.output - 1)
        return f"needs {need} KV blocks, the engine has {most_blocks}" if need > most_blocks else None

    def step(self, allowed: Callable[[Job], bool] = _anybody) -> list[Job] | None:
        """Take one step; who ended in it, or None where nothing can run. `allowed` says who may be admitted."""
        began_s = self._clock()
        parts = self._plan(began_s, allowed)
        if not parts:
            return None
        step = self._note(parts, began_s)
        tokens = self._run(parts)
        now_s = self._clock()
        self.notes.steps.append(step._replace(step_s=now_s - began_s))
        return self._take_in(parts, tokens, now_s)

    def can_admit(self, now_s: float) -> Job | None:
        """Who would be admitted next, if anybody could be now."""
        job = self.line.head(now_s)
        return job if job is not None and self._fits(job) else None

    def clear(self) -> None:
        """Take every request's place."""
        for job in list(self.running):
            self.preempt(job, "its model is evicted")

    def preempt(self, job: Job, why: str) -> None:
        """Take a request's place and memory. Its KV moves to the host, or is computed again later."""
        now_s, kept, context = self._clock(), 0, job.computed
        began = time.perf_counter()
        if self.limits.swap and job.computed:
            job.host = self.kv.out(job.blocks[: self.kv.blocks_for(job.computed)])
            kept = job.host.nbytes
        else:
            job.computed = 0
        seconds = time.perf_counter() - began
        self.kv.give(job.blocks)
        job.blocks = []
        self.running.remove(job)
        job.preemptions += 1
        job.left_s = now_s
        moved = f", {kept} bytes to the host" if kept else ""
        detail = f"{context} tokens of context{moved}: {why}"
        self.notes.event(now_s, "preempt", self.model.name, job.number, kept or None, seconds, detail)
        self.line.put(job, now_s)

    def give_up(self, job: Job, error: str, status: str = "rejected") -> Job:
        """End a request that waits without serving it."""
        self.line.take(job)
        job.host = None
        job.status, job.error, job.finish_s = status, error, self._clock()
        return job

    def _plan(self, now_s: float, allowed: Callable[[Job], bool]) -> list[Part]:
        """The next step's batch, with its blocks."""
        if self.limits.prefill_first:
            parts = self._fill(now_s, allowed, self.limits.max_num_batched_tokens)
            if parts:
                return parts
        evicted = self._make_room()
        decoding = [(job, job.preemptions) for job in self.running if job.decodes]
        for job, _ in decoding:
            self._grow(job, 1)
        budget = self.limits.max_num_batched_tokens - len(decoding)
        fresh = self._fill(now_s, _nobody if evicted else allowed, budget)
        return [(job, 1) for job, before in decoding if job.preemptions == before] + fresh

    def _fill(self, now_s: float, allowed: Callable[[Job], bool], budget: int) -> list[Part]:
        """Use a budget of tokens for prefills: the one under way, then those that wait."""
        parts: list[Part] = []
        while budget > 0:
            job = self._partial() if not parts else None
            if job is None and (job := self._admit(now_s, allowed)) is None:
                break
            tokens = min(job.to_compute, budget)
            if self._missing(job, tokens) > self.kv.free:
                break
            self._grow(job, tokens)
            parts.append((job, tokens))
            budget -= tokens
            if tokens < job.to_compute:
                break
        return parts

    def _partial(self) -> Job | None:
        """The request whose prefill is under way."""
        return next((job for job in self.running if not job.decodes), None)

    def _missing(self, job: Job, tokens: int) -> int:
        """Blocks that a request needs for so many tokens more."""
        return max(0, self.kv.blocks_for(job.computed + tokens) - len(job.blocks))

    def _grow(self, job: Job, tokens: int) -> None:
        job.blocks += self.kv.take(self._missing(job, tokens))

    def _needed(self) -> int:
        return sum(self._missing(job, 1) for job in self.running if job.decodes)

    def _make_room(self) -> bool:
        """Preempt until what decodes, and then the prefill under way, has its blocks. Whether somebody lost a place."""
        evicted = False
        while self.running and self._needed() + self._chunk() > self.kv.free:
            self.preempt(self.victim(), "KV blocks ran out")
            evicted = True
        return evicted

    def _chunk(self) -> int:
        """Blocks of the next chunk of the prefill under way."""
        job = self._partial()
        if job is None:
            return 0
        budget = self.limits.max_num_batched_tokens - len(self.running) + 1
        return self._missing(job, min(job.to_compute, budget))

    def victim(self) -> Job:
        """Who loses its place first."""
        return max(self.running, key=self._lateness)

    def _lateness(self, job: Job) -> tuple[float, int]:
        if self.rules.latest:
            return job.started, job.number
        if job.decodes and self.rules.holds(job):
            return -float("inf"), job.number
        rank = self.rules.running_rank(job) if job.decodes else job.order
        return rank - self.rules.context_cost * job.computed, job.number

    def _admit(self, now_s: float, allowed: Callable[[Job], bool]) -> Job | None:
        """Give the first of the waiting its place, if it may have one."""
        job = self.line.head(now_s)
        if job is None or not allowed(job) or not (self._fits(job) or self._displace(job)):
            return None
        self.line.take(job)
        self.running.append(job)
        if job.start_s is None:
            job.start_s = now_s
        else:
            job.preempted_s += now_s - job.left_s
        if job.host is not None:
            self._swap_in(job)
        if job.decodes:
            self._starts(job, now_s)
        return job

    def _starts(self, job: Job, now_s: float) -> None:
        """A request decodes from now on."""
        job.started = now_s
        self.rules.guard(job)

    def _fits(self, job: Job) -> bool:
        """Whether all of a request so far has a place and memory."""
        if len(self.running) >= self.limits.max_num_seqs:
            return False
        return self.kv.blocks_for(job.prompt + job.produced) <= self.kv.free

    def _displace(self, job: Job) -> bool:
        """Preempt what ranks after `job` until it fits. Nobody loses its place unless that is enough."""
        if not self.rules.displace:
            return False
        rank = job.order + self.rules.hysteresis
        later = [j for j in self.running if j.decodes and self._lateness(j)[0] > rank]
        later.sort(key=self._lateness, reverse=True)
        need, gone, blocks = self.kv.blocks_for(job.prompt + job.produced) - self.kv.free, 0, 0
        for victim in later:
            gone, blocks = gone + 1, blocks + len(victim.blocks)
            if blocks >= need and len(self.running) - gone < self.limits.max_num_seqs:
                break
        else:
            return False
        for victim in later[:gone]:
            self.preempt(victim, f"displaced by request {job.number}")
        return True

    def _swap_in(self, job: Job) -> None:
        began = time.perf_counter()
        job.blocks = self.kv.take(self.kv.blocks_for(job.computed))
        size = job.host.nbytes
        self.kv.back(job.host, job.blocks)
        job.host = None
        seconds, now_s = time.perf_counter() - began, self._clock()
        detail = f"{job.computed} tokens of context"
        self.notes.event(now_s - seconds, "restore", self.model.name, job.number, size, seconds, detail)

    def _run(self, parts: Sequence[Part]) -> list[int | None]:
        """The step's tokens; where activations find no memory, in two halves one after the other."""
        try:
            return self._forward(parts)
        except torch.OutOfMemoryError:
            self.notes.halved += 1
        torch.cuda.empty_cache()
        if len(parts) > 1:
            half = len(parts) // 2
            return self._run(parts[:half]) + self._run(parts[half:])
        return self._run_one(*parts[0])

    def _run_one(self, job: Job, count: int) -> list[int | None]:
        """One request's tokens in two halves; a single token that finds no memory is its end."""
        if count == 1:
            job.error = "no memory is left for its activations"
            return [None]
        half = count // 2
        self._run([(job, half)])
        job.computed += half
        try:
            return self._run([(job, count - half)]) if job.error is None else [None]
        finally:
            job.computed -= half

    def _take_in(self, parts: Sequence[Part], tokens: Sequence[int | None], now_s: float) -> list[Job]:
        """The step is over: its tokens are there; who has all ends."""
        ended = []
        for (job, count), token in zip(parts, tokens, strict=True):
            decoded = job.decodes
            job.computed += count
            if job.error is not None:
                self._end(job, now_s, "error")
                ended.append(job)
            self.prefilled += 0 if decoded else count
            if token is None:
                continue
            job.tokens[job.prompt + job.produced] = token
            job.produced += 1
            job.times.append(now_s)
            self.emitted += 1
            self.line.served(job, 1)
            if not decoded:
                self._starts(job, now_s)
            if job.produced == job.output:
                self._end(job, now_s, "ok")
                ended.append(job)
        return ended

    def _end(self, job: Job, now_s: float, status: str) -> None:
        self.running.remove(job)
        self.kv.give(job.blocks)
        job.blocks = []
        job.status, job.finish_s = status, now_s

    def _note(self, parts: Sequence[Part], began_s: float) -> Step:
        """The step as it is planned."""
        decoding = [job for job, count in parts if job.decodes]
        return Step(
            began_s,
            model=self.model.name,
            queue=len(self.line),
            running=len(self.running),
            kv_used_blocks=self.kv.held,
            kv_total_blocks=self.kv.most,
            kv_bytes=self.kv.pages * self.kv.arena.page_bytes,
            resident_bytes=self.model.size,
            prefill_tokens=sum(count for _, count in parts) - len(decoding),
            decodes=len(decoding),
            kv_tokens=sum(job.computed + 1 for job in decoding),
        )
