"""Small clusters and replays on them that stay in memory, for the tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from replay.cluster.driver import ClusterDriver
from replay.cluster.hosting import Hosting
from replay.cluster.spec import Cluster, EngineLimits, GPUs, Hosted, Sharing
from replay.schedulers.fcfs import FCFS
from tests.replay.simulations import Collected, Unwatched, make_trace
from toolkit.placing import ABSENT, READY, Action, Evict, Facts, Load, Migrate, Offload, Placement, Resize, View, Wait
from toolkit.protocols import Scheduler
from toolkit.traces import TraceInfo


@dataclass
class Outcome:
    """What a replay on a cluster left behind."""

    driver: ClusterDriver
    outcomes: pl.DataFrame
    timeline: pl.DataFrame
    events: pl.DataFrame


def cluster_of(models: Sequence[str], gpus: int = 1, preset: str = "llama-3.1-8b", **given: object) -> Cluster:
    """A cluster of H100s whose models are all `preset`, named and serving as `models`."""
    sharing = given.pop("sharing", Sharing())
    limits = given.pop("limits", EngineLimits(max_num_seqs=64, max_num_batched_tokens=512))
    hosted = tuple(Hosted(name, preset, (name,), **given) for name in models)  # type: ignore[arg-type]
    return Cluster((GPUs("h100", gpus),), hosted, limits=limits, sharing=sharing)  # type: ignore[arg-type]


def several(models: Sequence[str], requests: int, rate: float, seed: int = 0, **given: object) -> pl.DataFrame:
    """A Poisson trace over `models`, the first most popular."""
    rng = np.random.default_rng(seed)
    popularity = 1 / (1 + np.arange(len(models)))
    made = {
        "arrival_s": np.cumsum(rng.exponential(1 / rate, requests)),
        "model": [models[i] for i in rng.choice(len(models), requests, p=popularity / popularity.sum())],
        "prompt_tokens": rng.integers(10, 600, requests),
        "output_tokens": rng.integers(1, 120, requests),
    }
    return make_trace(pl.DataFrame(made | given))


def replay_on(
    cluster: Cluster,
    trace: pl.DataFrame,
    placement: Placement,
    scheduler: Scheduler | None = None,
    *,
    closed: bool = True,
    jump: bool = True,
    block_tokens: int | None = None,
) -> Outcome:
    """Replay `trace` to its end."""
    span_s = float(trace["arrival_s"].max() or 0.0)  # type: ignore[arg-type]
    info = TraceInfo("test", "test", "", len(trace), len(trace), span_s=span_s, block_tokens=block_tokens)
    writer = Collected()
    hosting = Hosting(cluster, trace)
    driver = ClusterDriver.prepare(hosting, info, scheduler or FCFS(), placement, "tested", closed=closed, jump=jump)
    assert driver.run(writer, Unwatched())  # type: ignore[arg-type]
    ended = writer.table("outcomes").sort("request_id")
    return Outcome(driver, ended, writer.table("timeline"), writer.table("events"))


class Chaotic:
    """Does something that is allowed, at random, whenever it is asked: a placement to test the rules with."""

    def __init__(self, seed: int, interval_s: float | None = 0.7, arbitrates: bool = False):
        self.rng, self.interval_s, self.arbitrates = np.random.default_rng(seed), interval_s, arbitrates
        self.least_kv_share = 0.3

    def begin(self, facts: Facts) -> list[Action]:
        self.facts = facts
        return []

    def decide(self, view: View) -> list[Action]:
        if view.why == "memory" and self.rng.random() < 0.5:
            return [Wait()]
        models = self.rng.permutation(len(self.facts.models))
        for m in [view.model, *models.tolist()] if view.model >= 0 else models.tolist():
            action = self._about(view, int(m))
            if action is not None:
                return [action]
        return []

    def _about(self, view: View, m: int) -> Action | None:
        settled = view.state[m] == READY and not view.moving[m]
        if view.state[m] == ABSENT:
            gpus = self._room(view, m, set())
            if gpus and (view.waiting[m] or self.rng.random() < 0.3):
                return Load(m, gpus, kv_bytes=None if self.rng.random() < 0.7 else 4 * self.facts.least_kv_bytes[m])
        elif settled and self.rng.random() < 0.5:
            return [Evict(m), self._resized(m), self._moved(view, m), self._offloaded(view, m)][self.rng.integers(4)]
        return None

    def _resized(self, m: int) -> Action:
        return Resize(m, None if self.rng.random() < 0.5 else self.rng.uniform(1, 4) * self.facts.least_kv_bytes[m])

    def _offloaded(self, view: View, m: int) -> Action | None:
        free = self.facts.memory_bytes * (1 - self.least_kv_share) - view.weight_bytes
        fits = free[list(view.gpus[m])].min() >= self.facts.weight_bytes[m] * (1 - view.resident[m])
        return Offload(m, 1.0 if fits and self.rng.random() < 0.5 else float(view.resident[m]) * 0.75)

    def _moved(self, view: View, m: int) -> Action | None:
        gpus = self._room(view, m, set(view.gpus[m]))
        return Migrate(m, gpus) if gpus else None

    def _room(self, view: View, m: int, besides: set[int]) -> tuple[int, ...]:
        free = self.facts.memory_bytes * (1 - self.least_kv_share) - view.weight_bytes
        fits = [g for g in range(len(free)) if free[g] >= self.facts.weight_bytes[m] and g not in besides]
        width = int(self.facts.width[m])
        return tuple(sorted(self.rng.permutation(fits)[:width].tolist())) if len(fits) >= width else ()
