"""What a worker does: objectives of a seed, demand of a seed at a load, and the replay of a point."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from replay.cluster.driver import ClusterDriver
from replay.cluster.hindsight import best_in_hindsight, placement_of
from replay.cluster.hosting import Hosting
from replay.cluster.load import baselines, demand, with_objectives
from replay.cluster.spec import Cluster
from replay.sweep.measuring import measured
from replay.sweep.points import Point
from replay.sweep.source import Requests, Source, requests
from toolkit import plugins
from toolkit.placing import Placement
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo


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
    driver = _replayed(point, cluster, (frame, info), closed=source.sweep.sessions == "closed")
    busy = None if task.demand.gpus is None else task.demand.gpus / len(driver.hosting.gpu_types)
    return {**measured(driver), "offered_per_s": task.demand.requests_per_s, "utilisation": busy}


def compile_core(source: Source) -> None:
    """Replay one request, so that the core is compiled, or loaded from disk where it was."""
    model = source.cluster.models[0]
    row = {"request_id": 0, "arrival_s": 0.0, "model": (model.serves or (model.name,))[0]}
    frame = conform(pl.DataFrame([row | {"prompt_tokens": 8, "output_tokens": 2}]), TRACE, source="warming")
    point = Point("static", "fcfs", len(source.cluster.gpu_types), 1.0, None, 0)
    info = TraceInfo("warming", "made", "", 1, 1, span_s=0.0)
    _replayed(point, source.cluster, (frame, info), closed=False)


def _replayed(point: Point, cluster: Cluster, requests: Requests, *, closed: bool) -> ClusterDriver:
    frame, info = requests
    hosting, who = Hosting(cluster, frame), plugins.split_spec(point.placement)[0]

    def prepare(placement: Placement) -> ClusterDriver:
        scheduler = plugins.create("scheduler", point.scheduler)
        return ClusterDriver.prepare(hosting, info, scheduler, placement, who, closed=closed)

    driver = prepare(placement_of(point.placement, best_in_hindsight(point.placement, prepare, None)))
    driver.run(None, None)
    return driver
