"""What a trace asks of a cluster: the same requests with every model by itself on GPUs of its own."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from replay.cluster.driver import ClusterDriver
from replay.cluster.hosting import Hosting
from replay.cluster.spec import Cluster, GPUs
from replay.placements.static import Static
from replay.schedulers.fcfs import FCFS
from replay.simulation.state import FINISHED, PS
from toolkit.traces import TraceInfo

BASELINE = 0.95  # the quantile of a model by itself that an objective is a multiple of (as Prism)


def dedicated(cluster: Cluster) -> Cluster:
    """The same models, each on GPUs of its own, of the cluster's first type."""
    gpus = sum(m.tensor_parallel * m.replicas for m in cluster.models)
    return replace(cluster, gpus=(GPUs(cluster.gpus[0].type, gpus),))


def alone(cluster: Cluster, trace: pl.DataFrame, info: TraceInfo, *, closed: bool = False) -> ClusterDriver:
    """A finished replay of `trace` with every model by itself, first come first served."""
    hosting = Hosting(dedicated(cluster), trace)
    driver = ClusterDriver.prepare(hosting, info, FCFS(), Static(), "static", closed=closed)
    driver.run(None, None)
    return driver


def demand(cluster: Cluster, trace: pl.DataFrame, info: TraceInfo) -> tuple[float, float] | None:
    """(Requests a second, GPUs that they keep busy): the GPU time they take when all are offered at once and every
    model is by itself, over the time until the last arrives; null where they arrive together.
    """
    arrival = trace["arrival_s"].fill_null(0.0).to_numpy()
    span_s = float(arrival.max(initial=0.0))
    if span_s == 0.0:
        return None
    driver = alone(cluster, trace.with_columns(arrival_s=pl.lit(0.0)), info)
    pool, instances = driver.controller.pool, driver.controller.state.instances
    busy_s = float((instances["busy"] * pool.engines["width"]).sum() / PS)
    return len(arrival) / span_s, busy_s / span_s


def utilisation(hosting: Hosting, info: TraceInfo) -> dict[str, Any]:
    """The offered rate, and ρ: the GPUs that its requests keep busy over those that there are."""
    asked = demand(hosting.cluster, hosting.trace, info)
    if asked is None:
        return {"offered_per_s": None, "utilisation": None}
    return {"offered_per_s": asked[0], "utilisation": asked[1] / len(hosting.gpu_types)}


def baselines(cluster: Cluster, trace: pl.DataFrame, info: TraceInfo) -> pl.DataFrame:
    """Each model's P95 TTFT and TPOT on GPUs of its own: `model` (as the cluster names it), `ttft_s`, `tpot_s`; null
    where no request of it tells.
    """
    driver = alone(cluster, trace, info)
    q, served_by = driver.controller.state.requests, _served_by(driver.hosting)
    ended = q["status"] == FINISHED
    several = ended & (q["output"] > 1)
    ttft = (q["first"] - q["arrival"]) / PS
    tpot = (q["finish"] - q["first"]) / PS / np.maximum(q["output"] - 1, 1)
    of = range(len(cluster.models))
    found = {
        "ttft_s": [_baseline(ttft[ended & (served_by == m)]) for m in of],
        "tpot_s": [_baseline(tpot[several & (served_by == m)]) for m in of],
    }
    return pl.DataFrame(
        {"model": [m.name for m in cluster.models], **found}, schema_overrides=dict.fromkeys(found, pl.Float64)
    )


def with_objectives(
    cluster: Cluster, trace: pl.DataFrame, found: pl.DataFrame, ttft_scale: float, tpot_scale: float
) -> pl.DataFrame:
    """The trace with each model's `baselines`, times a scale, as its requests' objectives."""
    each = found[_served_by(Hosting(dedicated(cluster), trace))]
    return trace.with_columns(slo_ttft_s=each["ttft_s"] * ttft_scale, slo_tpot_s=each["tpot_s"] * tpot_scale)


def _served_by(hosting: Hosting) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """[request] the place in the cluster's models of the one that serves it."""
    place = {m.name: i for i, m in enumerate(hosting.cluster.models)}
    return np.array([place[r.hosted.name] for r in hosting.replicas])[hosting.model_of]


def _baseline(values: np.ndarray) -> float | None:
    return float(np.quantile(values, BASELINE)) if len(values) else None
