"""One model's engine: computes what is planned for it, and moves KV to the host and back."""

import time
from collections.abc import Callable, Sequence

import torch

from replay.planning.jobs import Job, Part
from replay.planning.line import Line
from replay.planning.memory import Memory
from replay.planning.planner import Planner
from replay.planning.rules import Rules
from replay.torch_engine.forward import Forward
from replay.torch_engine.kv import KV
from replay.torch_engine.limits import Limits
from replay.torch_engine.model import Model
from replay.torch_engine.notes import Notes, Step


def _anybody(job: Job) -> bool:
    return True


class Engine:
    """Serves the requests of one model; `clock` gives the time on the house's clock."""

    def __init__(self, model: Model, kv: KV, limits: Limits, rules: Rules, notes: Notes, clock: Callable[[], float]):
        self.model, self.kv, self.limits, self.notes = model, kv, limits, notes
        self.memory = Memory(kv, limits.block_tokens, caching=limits.prefix_caching)
        self.planner = Planner(limits, rules, self.memory, self)
        self._forward, self._clock = Forward(model, kv), clock

    @property
    def line(self) -> Line:
        return self.planner.line

    @property
    def running(self) -> list[Job]:
        return self.planner.running

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
        parts = self.planner.plan(began_s, allowed)
        if not parts:
            return None
        step = self._note(parts, began_s)
        tokens = self._run(parts)
        now_s = self._clock()
        self.notes.steps.append(step._replace(step_s=now_s - began_s))
        return self._take_in(parts, tokens, now_s)

    def clear(self) -> None:
        """Take every request's place, and forget what they have left."""
        for job in list(self.running):
            self.preempt(job, "its model is evicted")
        while self.memory.drop():
            pass

    def preempt(self, job: Job, why: str) -> None:
        """Take a request's place and memory."""
        self.planner.preempt(job, self._clock(), why)

    def give_up(self, job: Job, error: str) -> Job:
        """End a request that waits without serving it."""
        job.error = error
        self.planner.give_up(job, self._clock(), "rejected")
        return job

    def loses(self, job: Job, why: str) -> bool:
        """A request's KV moves to the host, or is computed again later."""
        now_s, began, kept = self._clock(), time.perf_counter(), 0
        if self.limits.swap and job.computed:
            job.host = self.kv.out(job.blocks[: self.kv.blocks_for(job.computed)])
            kept = job.host.nbytes
        seconds = time.perf_counter() - began
        moved = f", {kept} bytes to the host" if kept else ""
        detail = f"{job.computed} tokens of context{moved}: {why}"
        self.notes.event(now_s, "preempt", self.model.name, job.number, kept or None, seconds, detail)
        return kept > 0

    def regains(self, job: Job) -> None:
        """A request's KV comes back from the host."""
        began, size = time.perf_counter(), job.host.nbytes
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
        """The step is over: its tokens are there; who has all ends, and who found no memory."""
        failed = []
        for (job, _), token in zip(parts, tokens, strict=True):
            if job.error is not None:
                self.planner.end(job, now_s, "error")
                failed.append(job)
            elif token is not None:
                job.tokens[job.prompt + job.produced] = token
        return failed + self.planner.take_in(parts, now_s)

    def _note(self, parts: Sequence[Part], began_s: float) -> Step:
        """The step as it is planned."""
        decoding = [job for job, count in parts if job.decodes]
        return Step(
            began_s,
            model=self.model.name,
            queue=len(self.line),
            running=len(self.running),
            kv_used_blocks=self.memory.used,
            kv_total_blocks=self.kv.most,
            kv_bytes=self.kv.pages * self.kv.arena.page_bytes,
            resident_bytes=self.model.size,
            prefill_tokens=sum(count for _, count in parts) - len(decoding),
            decodes=len(decoding),
            kv_tokens=sum(job.computed + 1 for job in decoding),
        )
