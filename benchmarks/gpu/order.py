"""Tails of the same bursty requests under several schedulers, on one engine in real time."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.policies import policies, sizes_s
from benchmarks.gpu.serving import served, told
from benchmarks.gpu.setting import Point, Setting
from benchmarks.gpu.shapes import made
from benchmarks.gpu.traffic import bursty, lengths
from replay.planning.jobs import Job
from replay.torch_engine.costs import Costs, measured
from replay.torch_engine.house import House
from replay.torch_engine.limits import Limits
from replay.torch_engine.model import Model
from toolkit.placing import Evict, Load

NAMES, MODEL, LOAD = ("fcfs", "sjf", "srpt", "uniboost"), "1b", 1.0
SPAN_S, SEEDS, REASONING = 40.0, 2, 0.2
LIMITS = Limits(max_num_seqs=64, swap=True, prefix_caching=False)
ROOM = 12 * 2**30
PROMPT, CONTEXT = 300, 450.0  # of a request of the mix, about: where costs are measured


def points(at: Setting) -> Iterator[Point]:
    """Seed by seed, so that what is cut off has whole comparisons."""
    held = Held(at)
    for seed in range(1 if at.smoke else SEEDS):
        for name in NAMES:
            what = {"model": MODEL, "policy": name, "seed": at.seed + seed, "load": LOAD}
            yield Point(what, lambda name=name, seed=at.seed + seed: held.served(name, seed), 2 * SPAN_S)


class Held:
    """The model and its costs, which all schedulers are told alike."""

    def __init__(self, at: Setting):
        self.at = at
        self.limits = replace(LIMITS, max_num_seqs=4) if at.smoke else LIMITS

    @cached_property
    def model(self) -> Model:
        model = made(self.at, MODEL)
        if self.at.device.is_gpu:
            torch.cuda.empty_cache()
        return model

    @cached_property
    def costs(self) -> Costs:
        shrink = 16 if self.at.smoke else 1
        return measured(self._house(), PROMPT // shrink, CONTEXT / shrink)[0]

    def _house(self) -> House:
        """A fresh one: its clock and its counts begin at nothing."""
        room, page = (2**22, 2**16) if self.at.smoke else (int(min(ROOM, self.at.memory_bytes / 4)), 2**21)
        return House(self.at.device, [self.model], self.limits, self.model.size + room, page_bytes=page)

    def served(self, name: str, seed: int) -> dict[str, Any]:
        costs = self.costs
        jobs, per_s = self._jobs(seed, costs)
        policy = policies(jobs, costs, per_s)[name]
        for job in jobs:
            job.rank = policy.rank(job)
        house = self._house()
        house.rule(policy.rules)
        house.start([Load(0, (0,))])
        try:
            found = served(house, jobs)
        finally:
            house.hosting.apply([Evict(0)])
        return {**found, "costs": told(costs), "requests_per_s": per_s, "max_num_seqs": self.limits.max_num_seqs}

    def _jobs(self, seed: int, costs: Costs) -> tuple[list[Job], float]:
        """The seed's requests, at the rate at which full steps would be busy all the time; and that rate."""
        rng, shrink = np.random.default_rng(seed), 16 if self.at.smoke else 1
        prompt, output = lengths(rng, 20_000, REASONING, shrink)
        typical = [Job(n, int(p), int(o), 0.0) for n, (p, o) in enumerate(zip(prompt, output, strict=True))]
        per_s = LOAD / float(sizes_s(typical, costs).mean())
        span_s = 20 / per_s if self.at.smoke else SPAN_S
        arrival = bursty(rng, per_s, span_s)[: len(typical)]
        return [Job(n, typical[n].prompt, typical[n].output, float(a)) for n, a in enumerate(arrival)], per_s
