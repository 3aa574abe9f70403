"""A random Llama of two layers, and what becomes of requests that it serves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

from replay.planning.jobs import Job
from replay.planning.rules import Rules
from replay.torch_engine.device import Device
from replay.torch_engine.house import House
from replay.torch_engine.limits import Limits
from replay.torch_engine.model import Model, build
from toolkit.placing import LOADING, Action, Evict, Facts, Load, View

torch.set_num_threads(1)  # as good as any for models this small

CONFIG: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,  # so large that what is said depends on every token before
}
PAGE = 1 << 16
ROOM = 1 << 20


@cache
def model(seed: int = 0) -> Model:
    """A tiny Llama; nobody may leave it loaded."""
    return build(f"tiny-{seed}", CONFIG, Device.of("cpu"), seed=seed)


@dataclass
class Served:
    """Jobs that were served, and the house that did."""

    house: House
    jobs: list[Job]

    @property
    def tokens(self) -> list[list[int]]:
        return [job.tokens[job.prompt :].tolist() for job in self.jobs]


def served(jobs: list[Job], *, rules: Rules | None = None, **limits: Any) -> Served:
    """Serve `jobs` with one model that is loaded."""
    house = House(
        Device.of("cpu"),
        [model()],
        Limits(**limits),
        model().size + ROOM,
        rules=rules,
        page_bytes=PAGE,
        keep_tokens=True,
    )
    house.start([Load(0, (0,))])
    try:
        assert house.run(jobs)
    finally:
        house.hosting.apply([Evict(0)])
    return Served(house, jobs)


def several(count: int = 12, *, at_once: bool = True, models: int = 1, seed: int = 0) -> list[Job]:
    """Requests of mixed lengths."""
    rng = np.random.default_rng(seed)
    arrival = np.zeros(count) if at_once else np.cumsum(rng.exponential(0.01, count))
    return [
        Job(n, int(rng.integers(3, 60)), int(rng.integers(2, 30)), float(arrival[n]), model=int(rng.integers(models)))
        for n in range(count)
    ]


@dataclass
class Script:
    """A placement that begins with some actions, and does the next of others at each tick when nothing is loading."""

    first: Sequence[Action]
    later: list[Sequence[Action]] = field(default_factory=list)
    interval_s: float | None = 0.02
    least_kv_share: float = 0.0
    views: list[View] = field(default_factory=list)

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts = facts
        return self.first

    def decide(self, view: View) -> Sequence[Action]:
        self.views.append(view)
        settled = view.why in ("tick", "loaded") and LOADING not in view.state
        return self.later.pop(0) if self.later and settled else ()
