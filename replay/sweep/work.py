"""What a worker does: objectives of a seed, demand of a seed at a load, and the replay of a point."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from replay.cluster.driver import ClusterDriver
from replay.cluster.hosting import Hosting
from replay.cluster.load import baselines, demand, with_objectives
from replay.sweep.measuring import measured
from replay.sweep.points import Point
from replay.sweep.source import Source, requests
from toolkit import plugins


@dataclass(frozen=True)
class Demand:
    """What requests ask for: how many a second, and how many GPUs they keep busy; null where all come together."""

    requests_per_s: float | None
    gpus: float | None


@dataclass(frozen=True)
class Task:
    """A point with what is worked out once for several of them."""

    point: Point
    demand: Demand
    baselines: pl.DataFrame | None  # null: requests keep the objectives that they have


def baselines_of(source: Source, seed: int) -> pl.DataFrame:
    """Each model's P95 on GPUs of its own at the trace's own load."""
    return baselines(source.cluster, *requests(source, seed, 1.0))


def demand_of(source: Source, at: tuple[int, float]) -> Demand:
    """What a seed's requests ask for at a load."""
    return Demand(*(demand(source.cluster, *requests(source, *at)) or (None, None)))


def row_of(source: Source, task: Task) -> dict[str, Any]:
    """Replay a point; its columns of the table SWEEP but for its axes."""
    point = task.point
    cluster = point.on(source.cluster)
    frame, info = requests(source, point.seed, point.load)
    if point.slo_scale is not None and task.baselines is not None:
        frame = with_objectives(cluster, frame, task.baselines, *point.slo_scale)
    hosting = Hosting(cluster, frame)
    scheduler, placement = plugins.create("scheduler", point.scheduler), plugins.create("placement", point.placement)
    who = plugins.split_spec(point.placement)[0]
    closed = source.sweep.sessions == "closed"
    driver = ClusterDriver.prepare(hosting, info, scheduler, placement, who, closed=closed)
    driver.run(None, None)
    busy = None if task.demand.gpus is None else task.demand.gpus / len(hosting.gpu_types)
    return {**measured(driver), "offered_per_s": task.demand.requests_per_s, "utilisation": busy}
