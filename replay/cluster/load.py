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


def utilisation(hosting: Hosting, info: TraceInfo) -> dict[str, Any]:
    """The offered rate, and ρ: GPU time that the requests take when all are offered at once and every model is by
    itself, over the GPUs' time until the last arrives; null where they arrive together.
    """
    arrival = hosting.trace["arrival_s"].fill_null(0.0).to_numpy()
    span_s = float(arrival.max(initial=0.0))
    if span_s == 0.0:
        return {"offered_per_s": None, "utilisation": None}
    driver = alone(hosting.cluster, hosting.trace.with_columns(arrival_s=pl.lit(0.0)), info)
    pool, instances = driver.controller.pool, driver.controller.state.instances
    busy_s = float((instances["busy"] * pool.engines["width"]).sum() / PS)
    return {"offered_per_s": len(arrival) / span_s, "utilisation": busy_s / (span_s * len(hosting.gpu_types))}


def with_objectives(
    cluster: Cluster, trace: pl.DataFrame, info: TraceInfo, ttft_scale: float, tpot_scale: float
) -> pl.DataFrame:
    """The trace with each model's P95 TTFT and TPOT on GPUs of its own, times a scale, as objectives (as Prism)."""
    p95 = _objectives(cluster, trace, info, 0.95)
    return trace.with_columns(slo_ttft_s=p95["slo_ttft_s"] * ttft_scale, slo_tpot_s=p95["slo_tpot_s"] * tpot_scale)


def _objectives(cluster: Cluster, trace: pl.DataFrame, info: TraceInfo, quantile: float) -> pl.DataFrame:
    """`slo_ttft_s` and `slo_tpot_s` for each request: its model's `quantile` on GPUs of its own."""
    driver = alone(cluster, trace, info)
    q, model_of = driver.controller.state.requests, driver.hosting.model_of
    ended = q["status"] == FINISHED
    several = ended & (q["output"] > 1)
    ttft = (q["first"] - q["arrival"]) / PS
    tpot = (q["finish"] - q["first"]) / PS / np.maximum(q["output"] - 1, 1)
    values = {}
    for name, metric, known in (("slo_ttft_s", ttft, ended), ("slo_tpot_s", tpot, several)):
        of = [_quantile(metric[known & (model_of == m)], quantile) for m in range(len(driver.hosting.replicas))]
        values[name] = pl.Series(np.array(of)[model_of], nan_to_null=True)
    return pl.DataFrame(values)


def _quantile(values: np.ndarray, quantile: float) -> float:
    return float(np.quantile(values, quantile)) if len(values) else float("nan")
