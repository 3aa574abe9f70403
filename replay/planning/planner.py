"""Continuous batching: running requests first, then waiting ones in rank order, in a token budget.

As replay.simulation.steps has it, after vLLM V1: what decodes has its blocks first, and whoever ranks last loses its
place when there are none. What is left of the budget goes to the prefill that is under way, then to the waiting, each
admitted only when all of its prompt has room. So at most one request is in the middle of its prefill. A block can be
found by others once the step that computes it has ended.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from replay.planning.jobs import Job, Part
from replay.planning.line import Line
from replay.planning.memory import Memory
from replay.planning.rules import Rules


class Limits(Protocol):
    """What an engine can do in a step, under vLLM's names; every running request must have a token of it."""

    @property
    def max_num_seqs(self) -> int: ...
    @property
    def max_num_batched_tokens(self) -> int: ...
    @property
    def prefill_first(self) -> bool: ...


class Moves(Protocol):
    """What an engine does with KV when places change."""

    def loses(self, job: Job, why: str) -> bool:
        """A request that still has its blocks loses them; whether what it has computed is kept elsewhere."""
        ...

    def regains(self, job: Job) -> None:
        """It has blocks for what was kept."""
        ...


class Recompute:
    """Nothing is kept: what is lost is computed again."""

    def loses(self, job: Job, why: str) -> bool:
        return False

    def regains(self, job: Job) -> None: ...


def _anybody(job: Job) -> bool:
    return True


def _nobody(job: Job) -> bool:
    return False


class Planner:
    """Who runs and who waits at one engine; what is computed, and how long that takes, is the engine's."""

    def __init__(self, limits: Limits, rules: Rules, memory: Memory, moves: Moves | None = None):
        self.limits, self.rules, self.memory = limits, rules, memory
        self.line, self.running = Line(rules), list[Job]()
        self.prefilled = self.emitted = 0  # tokens
        self.preemptions = 0
        self._moves = moves or Recompute()

    def rule(self, rules: Rules) -> None:
        """Let another scheduler decide; nobody may be waiting."""
        self.rules, self.line = rules, Line(rules)

    def arrive(self, job: Job, now_s: float) -> None:
        """A request waits; of its prompt only what the cache lacks is work."""
        job.work = self.rules.prompt_work * (job.prompt - self.memory.found(job) * self.memory.block_tokens)
        self.line.put(job, now_s)

    def plan(self, now_s: float, allowed: Callable[[Job], bool] = _anybody) -> list[Part]:
        """The next step's batch, with its blocks. `allowed` says who may be admitted."""
        if self.limits.prefill_first:
            parts = self._fill(now_s, allowed, {})
            if parts:
                return parts
        evicted = self._make_room(now_s)
        decoding = {job: job.preemptions for job in self.running if job.decodes}
        for job in decoding:
            self.memory.grow(job, 1)
        fresh = self._fill(now_s, _nobody if evicted else allowed, decoding)
        return [(job, 1) for job, before in decoding.items() if job.preemptions == before] + fresh

    def take_in(self, parts: Sequence[Part], now_s: float) -> list[Job]:
        """The step is over, and its tokens are in the jobs; who has all ends."""
        ended = []
        for job, count in parts:
            if job.status is not None:
                continue  # it has ended meanwhile
            whole = count == job.to_compute
            job.computed += count
            self.memory.share(job)
            self.prefilled += 0 if job.decodes else count
            if whole:
                self._produced(job, now_s)
            if job.ended:
                self.end(job, now_s, "ok")
                ended.append(job)
        return ended

    def _produced(self, job: Job, now_s: float) -> None:
        job.produced += 1
        job.times.append(now_s)
        self.emitted += 1
        self.line.served(job, 1)
        if not job.decodes:
            job.decodes, job.started = True, now_s
            self.rules.guard(job)

    def end(self, job: Job, now_s: float, status: str) -> None:
        """A running request has ended."""
        self.running.remove(job)
        self.memory.release(job)
        job.status, job.finish_s = status, now_s

    def give_up(self, job: Job, now_s: float, status: str) -> None:
        """A request that waits will not be served."""
        self.line.take(job)
        job.host = None
        job.status, job.finish_s = status, now_s

    def preempt(self, job: Job, now_s: float, why: str) -> None:
        """Take a request's place and memory."""
        kept = self._moves.loses(job, why)
        self.memory.release(job)
        job.computed, job.decodes = job.computed if kept else 0, False
        self.running.remove(job)
        job.preemptions += 1
        self.preemptions += 1
        job.left_s = now_s
        self.line.put(job, now_s)

    def can_admit(self, now_s: float) -> Job | None:
        """Who would be admitted next, if anybody could be now."""
        job = self.line.head(now_s)
        return job if job is not None and self._fits(job) else None

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

    def _fill(self, now_s: float, allowed: Callable[[Job], bool], decoding: Mapping[Job, int]) -> list[Part]:
        """Use what decoding leaves of the budget for prefills: the one under way, then those that wait.

        Who is displaced for one of them (it had another count of preemptions in `decoding`) needs no token any more.
        """
        parts: list[Part] = []
        while self._left(decoding, parts) > 0:
            job = self._partial() if not parts else None
            if job is None and (job := self._admit(now_s, allowed)) is None:
                break
            tokens = min(job.to_compute, self._left(decoding, parts))
            if not self.memory.has(self.memory.missing(job, tokens)):
                break
            self.memory.grow(job, tokens)
            parts.append((job, tokens))
            if tokens < job.to_compute:
                break
        return parts

    def _left(self, decoding: Mapping[Job, int], parts: Sequence[Part]) -> int:
        """Tokens that the step has room for."""
        used = sum(job.preemptions == before for job, before in decoding.items())
        return self.limits.max_num_batched_tokens - used - sum(tokens for _, tokens in parts)

    def _partial(self) -> Job | None:
        """The request whose prefill is under way."""
        return next((job for job in self.running if not job.decodes), None)

    def _make_room(self, now_s: float) -> bool:
        """Preempt until what decodes, and then the prefill under way, has its blocks. Whether somebody lost a place."""
        evicted = False
        while self.running and not self.memory.has(self._needed() + self._chunk()):
            self.preempt(self.victim(), now_s, "KV blocks ran out")
            evicted = True
        return evicted

    def _needed(self) -> int:
        return sum(self.memory.missing(job, 1) for job in self.running if job.decodes)

    def _chunk(self) -> int:
        """Blocks of the next chunk of the prefill under way."""
        job = self._partial()
        if job is None:
            return 0
        budget = self.limits.max_num_batched_tokens - len(self.running) + 1
        return self.memory.missing(job, min(job.to_compute, budget))

    def _admit(self, now_s: float, allowed: Callable[[Job], bool]) -> Job | None:
        """Give the first of the waiting its place and what the cache has of it, if it may have one."""
        job = self.line.head(now_s)
        if job is None or not allowed(job) or not (self._fits(job) or self._displace(job, now_s)):
            return None
        self.line.take(job)
        self.running.append(job)
        back = job.computed > 0
        self.memory.begin(job)
        if job.start_s is None:
            job.start_s, job.cached = now_s, job.computed
        else:
            job.preempted_s += now_s - job.left_s
        if back:
            self._moves.regains(job)
        return job

    def _fits(self, job: Job) -> bool:
        """Whether all of a request so far has a place and memory."""
        return len(self.running) < self.limits.max_num_seqs and self.memory.has(self.memory.needs(job))

    def _displace(self, job: Job, now_s: float) -> bool:
        """Preempt what ranks after `job` until it fits. Nobody loses its place unless that is enough."""
        if not self.rules.displace:
            return False
        rank = job.order + self.rules.hysteresis
        later = [j for j in self.running if j.decodes and self._lateness(j)[0] > rank]
        later.sort(key=self._lateness, reverse=True)
        need, gone, blocks = self.memory.needs(job) - self.memory.free, 0, 0
        for victim in later:
            gone, blocks = gone + 1, blocks + self.memory.freed_by(victim)
            if blocks >= need and len(self.running) - gone < self.limits.max_num_seqs:
                break
        else:
            return False
        for victim in later[:gone]:
            self.preempt(victim, now_s, f"displaced by request {job.number}")
        return self._fits(job)
