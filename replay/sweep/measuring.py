"""From a replay that has ended to its row of the table SWEEP, by the metrics' definitions in toolkit.metrics."""

from typing import Any

import numpy as np
import polars as pl

from replay.cluster.attaining import attainments, met
from replay.cluster.driver import ClusterDriver
from replay.simulation.state import F64, FINISHED, PS

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
P999_FROM = 10_000  # requests; below, P99.9 is a handful of values


def measured(driver: ClusterDriver) -> dict[str, Any]:
    """What became of the requests, and what that took."""
    q = driver.controller.state.requests.view(np.ndarray)
    ok = q["status"] == FINISHED
    arrival, first, finish = q["arrival"] / PS, q["first"] / PS, q["finish"] / PS
    several = ok & (q["output"] > 1)
    ttft, tpot = first - arrival, (finish - first) / np.maximum(q["output"] - 1, 1)
    end_s = max(float(arrival.max(initial=0.0)), float(finish[ok].max(initial=0.0)))
    span_s = end_s - float(arrival.min(initial=end_s))
    asked, all_met = met(driver)["joint"]
    return {
        "requests": len(q),
        "ok": int(ok.sum()),
        "rejected": int((~ok).sum()),
        "with_slo": int(asked.sum()),
        **attainments(driver),
        "goodput_per_s": float(all_met.sum()) / span_s if asked.any() and span_s else None,
        "output_tokens_per_s": float(q["produced"][ok].sum()) / span_s if span_s else None,
        **_quantiles("ttft", ttft[ok]),
        **_quantiles("tpot", tpot[several]),
        **_quantiles("e2e", (finish - arrival)[ok]),
        "preemptions": int(q["preemptions"].sum()),
        **_moves(driver),
        "simulation_cpu_s": round(driver.cpu_s, 6),
    }


def _quantiles(metric: str, values: F64) -> dict[str, float | None]:
    wanted = QUANTILES | ({"p999": 0.999} if len(values) >= P999_FROM else {})
    found = np.quantile(values, list(wanted.values())) if len(values) else [None] * len(wanted)
    return {f"{metric}_{name}_s": None if v is None else float(v) for name, v in zip(wanted, found, strict=True)}


def _moves(driver: ClusterDriver) -> dict[str, int]:
    """Loads after the start, evictions and migrations, each once however many GPUs it is on; and what crossed links."""
    events = driver.controller.log.take()
    moved = events.filter(pl.col("kind").is_in(["load", "migrate"]) & (pl.col("duration_s") > 0))
    times = events.unique(["time_s", "kind", "model"])["kind"].value_counts()
    count = dict(times.iter_rows())
    return {
        "loads": driver.controller.loads,
        "evictions": count.get("evict", 0),
        "migrations": count.get("migrate", 0),
        "loaded_bytes": int(moved["bytes"].sum()),
    }
