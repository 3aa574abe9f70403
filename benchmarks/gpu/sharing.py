"""KV memory that several models share as they need it, against a share fixed for each: the same requests, busy in turn.

The arena's pages are plain memory, so what mapping them would take is not in it: `pages` has that. A load of 1 would be
full steps of one model all the time; three that take turns step by step reach about a third of that with the same
memory, and a model with a third of the memory a fifth: so loads are between.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.policies import sizes_s
from benchmarks.gpu.serving import served, told
from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import made
from benchmarks.gpu.traffic import in_turns
from replay.planning.jobs import Job
from replay.torch_engine.costs import Costs, measured
from replay.torch_engine.house import House
from replay.torch_engine.limits import Limits
from replay.torch_engine.model import Model
from toolkit.placing import Load

MODEL, MODELS, LOADS = "1b", 3, (0.3, 0.2, 0.25)
SPAN_S, TURN_S = 36.0, 6.0
PLACES = 60  # mean requests that the KV memory holds, of all models together
TOKENS = 450  # of a mean request, about
PROMPT, CONTEXT = 330, 400.0
LIMITS = Limits(max_num_seqs=PLACES, prefix_caching=False)


def points(at: Setting) -> Iterator[Point]:
    held = Held(at)
    for load in LOADS[:1] if at.smoke else LOADS:
        for split in ("static", "elastic"):
            what = {"model": MODEL, "models": MODELS, "split": split, "load": load, "seed": at.seed}
            yield Point(what, lambda split=split, load=load: held.served(split, load), 2 * SPAN_S)


class Held:
    """The models, and what a request of one costs."""

    def __init__(self, at: Setting):
        self.at = at

    @cached_property
    def models(self) -> list[Model]:
        models = [made(self.at, MODEL, seed) for seed in range(MODELS)]
        if self.at.device.is_gpu:
            torch.cuda.empty_cache()
        return models

    @cached_property
    def costs(self) -> list[Costs]:
        return measured(self._house(), PROMPT, CONTEXT)

    @property
    def page_bytes(self) -> int:
        return 2**16 if self.at.smoke else 2**21

    @property
    def room(self) -> int:
        """Bytes of KV memory, in whole pages for each model."""
        page = MODELS * self.page_bytes
        return -(-PLACES * TOKENS * self.models[0].shape.token_bytes // page) * page

    def _house(self) -> House:
        weights = sum(-(-m.size // self.page_bytes) * self.page_bytes for m in self.models)
        memory = weights + self.room
        return House(self.at.device, self.models, LIMITS, memory, page_bytes=self.page_bytes, least_kv_share=0)

    def served(self, split: str, load: float) -> dict[str, Any]:
        """Requests of all models, first come first served in each."""
        costs = self.costs
        jobs = self._jobs(costs[0], load)
        house = self._house()
        share = None if split == "elastic" else self.room / MODELS
        house.start([Load(m, (0,), kv_bytes=share) for m in range(MODELS)])
        try:
            found = served(house, jobs)
        finally:
            for engine in house.engines:
                engine.model.leave()
        return {**found, "kv_bytes": self.room, "costs": [told(c) for c in costs]}

    def _jobs(self, costs: Costs, load: float) -> list[Job]:
        rng = np.random.default_rng(self.at.seed)
        typical = in_turns(rng, 1000.0, 20.0, 1, TURN_S)
        jobs = [
            Job(n, int(p), int(o), 0.0) for n, (p, o) in enumerate(zip(typical.prompt, typical.output, strict=True))
        ]
        per_s = load / float(sizes_s(jobs, costs).mean())
        span_s = 12 / per_s if self.at.smoke else SPAN_S
        made = in_turns(rng, per_s, span_s, MODELS, TURN_S if not self.at.smoke else span_s / 6)
        rows = zip(made.prompt, made.output, made.arrival_s, made.model, strict=True)
        return [Job(n, int(p), int(o), float(a), model=int(m), rank=float(a)) for n, (p, o, a, m) in enumerate(rows)]
