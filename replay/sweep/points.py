"""The points of a sweep: one combination of all that is tried."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

import orjson

from replay.cluster.spec import Cluster
from replay.sweep.spec import Scale, Sweep


@dataclass(frozen=True)
class Point:
    """One replay of the sweep, and so one row of its table."""

    placement: str
    scheduler: str
    gpus: int
    load: float
    slo_scale: Scale | None
    seed: int

    def axes(self) -> dict[str, Any]:
        """Its columns in the table SWEEP."""
        ttft, tpot = self.slo_scale or (None, None)
        return {
            "placement": self.placement,
            "scheduler": self.scheduler,
            "gpus": self.gpus,
            "load": self.load,
            "slo_scale_ttft": ttft,
            "slo_scale_tpot": tpot,
            "seed": self.seed,
        }

    def key(self, identity: str) -> str:
        """A name that no other point has, of this sweep or another; `identity` is a hash of what all points share."""
        return sha256(identity.encode() + orjson.dumps(self.axes())).hexdigest()[:20]

    def on(self, cluster: Cluster) -> Cluster:
        """The cluster with as many GPUs of its first type as the point says."""
        return replace(cluster, gpus=(replace(cluster.gpus[0], count=self.gpus), *cluster.gpus[1:]))


def grid(sweep: Sweep, cluster: Cluster) -> list[Point]:
    """Every combination of the lists."""
    return points(sweep, *listed(sweep, cluster))


def listed(sweep: Sweep, cluster: Cluster) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The grid's GPUs and loads: by default the cluster's and the trace's own, but none of what is searched over."""
    over = sweep.search.over if sweep.search else None
    gpus = sweep.gpus or (() if over == "gpus" else (cluster.gpus[0].count,))
    return gpus, sweep.load or (() if over == "load" else (1.0,))


def points(sweep: Sweep, gpus: Iterable[int], load: Iterable[float]) -> list[Point]:
    """Every combination of these GPUs and loads with the sweep's other lists; what shares requests comes together."""
    every = product(sweep.seeds, load, gpus, sweep.scales, sweep.placements, sweep.compared)
    return [Point(placement, scheduler, g, x, scale, seed) for seed, x, g, scale, placement, scheduler in every]
