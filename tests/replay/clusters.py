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
from toolkit.placing import Placement
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
