"""One model swapped for another and back, at several points of progress: KV out, unload, reload, KV in; and recompute.

As in arXiv 2605.19593: a request of A is preempted, A leaves, B comes, works and leaves, A comes back, and so does its
KV memory. A's context is computed as a preempted request's would be, so that its KV is real; that prefill is the price
of recomputing. Weights come from pinned memory: `weights` says what other ways would take.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import config, fitting, made
from benchmarks.gpu.timing import once
from replay.planning.jobs import Job
from replay.torch_engine.house import House
from replay.torch_engine.limits import Limits
from replay.torch_engine.prompts import made_up
from toolkit.placing import Evict, Load

PROMPT, MORE, AFTER = 71, 20, 8  # the paper's prompt; what the intruder produces; steps of A before and after
PROGRESS = (100, 500, 1000, 2000, 3000, 5000)
SAME_CONTEXT, LONG = 4096, 16384
LIMITS = Limits(max_num_batched_tokens=8192, swap=True, prefix_caching=False)
ROOM = 4 * 2**30


def points(at: Setting) -> Iterator[Point]:
    """Progress with a growing context, progress within the same context, a long context, and another intruder."""
    names = fitting(at, 0.3)
    intruder, progress = names[0], (10, 40) if at.smoke else PROGRESS
    same = 64 if at.smoke else SAME_CONTEXT
    for name in names[1:]:
        pair = Pair(at, name, intruder)
        cases = [(PROMPT, n) for n in progress] + [(same - n, n) for n in (1, same // 4, 3 * same // 4)]
        for prompt, produced in cases[:3] if at.smoke else [*cases, (LONG - 100, 100)]:
            yield _point(pair, prompt, produced)
        pair.close()
    if len(names) > 2:
        pair = Pair(at, names[-1], names[-2])
        yield _point(pair, PROMPT, progress[-1])
        pair.close()


def _point(pair: "Pair", prompt: int, produced: int) -> Point:
    what = {"model": pair.names[0], "intruder": pair.names[1], "prompt": prompt, "produced": produced}
    return Point(what, lambda: pair.preempted(prompt, produced), 40)


class Pair:
    """Two models on one device, which are built when they are first needed."""

    def __init__(self, at: Setting, first: str, second: str):
        self.at, self.names, self._house = at, (first, second), None

    def close(self) -> None:
        self._house = None
        if self.at.device.is_gpu:
            torch.cuda.empty_cache()

    @property
    def house(self) -> House:
        """Memory for the larger of the two, and KV: both together would not need to be swapped."""
        if self._house is None:
            models = [made(self.at, name, seed) for seed, name in enumerate(self.names)]
            self.close()
            page = 2**16 if self.at.smoke else 2**21
            memory = max(m.size for m in models) + (2**22 if self.at.smoke else ROOM)
            self._house = House(self.at.device, models, LIMITS, memory, page_bytes=page)
        return self._house

    def preempted(self, prompt: int, produced: int) -> dict[str, Any]:
        """Seconds of each part, and whether the KV memory came back as it had left."""
        self.once(prompt, produced)
        found: dict[str, list[Any]] = {}
        for _ in range(min(3, self.at.repeats)):
            for name, value in self.once(prompt, produced).items():
                found.setdefault(name, []).append(value)
        same, kv_bytes = all(found.pop("same")), found.pop("kv_bytes")[0]
        return {**found, "same": same, "kv_bytes": kv_bytes, "weight_bytes": self.house.models[0].size}

    def once(self, prompt: int, produced: int) -> dict[str, Any]:
        house = self.house
        engine, events = house.engines[0], house.notes.events
        events.clear()
        house.start([Load(0, (0,))])
        job = self._waiting(prompt, produced)
        engine.line.put(job, 0.0)
        recompute_s = once(self.at.device, lambda: self._computed(job))
        steps = [once(self.at.device, engine.step) for _ in range(AFTER)]
        full = job.computed // LIMITS.block_tokens
        before = engine.kv.out(job.blocks[:full])
        engine.preempt(job, "another model comes")
        kv_bytes = job.host.nbytes
        house.hosting.apply([Evict(0)])
        self._intrude()
        house.start([Load(0, (0,))])
        resumed = [once(self.at.device, engine.step) for _ in range(AFTER)]
        same = torch.equal(engine.kv.out(job.blocks[:full]).view(torch.uint8), before.view(torch.uint8))
        took = {e["kind"]: e["duration_s"] for e in events if e["model"] == house.models[0].name}
        self._end(job)
        parts = {f"{kind}_s": took[kind] for kind in ("preempt", "evict", "load", "restore")}
        more = {"recompute_s": recompute_s, "step_s": statistics.median(steps), "resumed_step_s": resumed[-1]}
        return {**parts, **more, "same": same, "kv_bytes": kv_bytes}

    def _waiting(self, prompt: int, produced: int) -> Job:
        """A request that has produced so much and lost its memory."""
        vocabulary = config(self.names[0], self.at.smoke)["vocab_size"]
        output = produced + 2 * AFTER + 2
        job = Job(0, prompt, output, 0.0, tokens=made_up(0, prompt + output, 0, vocabulary))
        job.produced, job.start_s = produced, 0.0
        return job

    def _computed(self, job: Job) -> None:
        """Compute its context, until it decodes."""
        while not job.decodes:
            assert self.house.engines[0].step() is not None

    def _intrude(self) -> None:
        house, vocabulary = self.house, config(self.names[1], self.at.smoke)["vocab_size"]
        house.start([Load(1, (0,))])
        job = Job(1, PROMPT, MORE if not self.at.smoke else 3, 0.0, tokens=made_up(1, PROMPT, MORE, vocabulary))
        house.engines[1].line.put(job, 0.0)
        while job.status is None:
            house.engines[1].step()
        house.hosting.apply([Evict(1)])

    def _end(self, job: Job) -> None:
        engine = self.house.engines[0]
        engine.planner.end(job, 0.0, "ok")
        self.house.hosting.apply([Evict(0)])
