"""Which requests of a replay met their objectives."""

import numpy as np
import polars as pl

from replay.cluster.driver import ClusterDriver
from replay.simulation.state import FINISHED, PS, REJECTED

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
NAMES = {"joint": "attainment", "ttft": "attainment_ttft", "tpot": "attainment_tpot"}


def met(driver: ClusterDriver) -> dict[str, tuple[Flags, Flags]]:
    """Of NAMES: ([request] whether it has such an objective, [request] whether it has met it); one refused missed."""
    q, trace = driver.controller.state.requests.view(np.ndarray), driver.hosting.trace
    ok: Flags = q["status"] == FINISHED
    arrival, first, finish = q["arrival"] / PS, q["first"] / PS, q["finish"] / PS
    took = {"ttft": first - arrival, "tpot": (finish - first) / np.maximum(q["output"] - 1, 1)}
    slo = {name: trace[f"slo_{name}_s"].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in took}
    has: dict[str, Flags] = {name: ~np.isnan(values) for name, values in slo.items()}
    kept: dict[str, Flags] = {name: ok & (took[name] <= slo[name]) for name in took}
    kept["tpot"] |= ok & (q["output"] <= 1) & has["tpot"]
    asked = has["ttft"] | has["tpot"]
    joint = asked & (kept["ttft"] | ~has["ttft"]) & (kept["tpot"] | ~has["tpot"])
    return {"joint": (asked, joint), **{name: (has[name], kept[name]) for name in took}}


def missed(driver: ClusterDriver, of: str) -> int:
    """How many requests have ended so far without having met their objective."""
    status = driver.controller.state.requests.view(np.ndarray)["status"]
    has, kept = met(driver)[of]
    return int((has & ~kept & ((status == FINISHED) | (status == REJECTED))).sum())


def attainments(driver: ClusterDriver) -> dict[str, float | None]:
    """By the columns of SWEEP that NAMES has: shares of all requests that have the objective; null where none has."""
    found = met(driver)
    return {NAMES[of]: float(kept[has].mean()) if has.any() else None for of, (has, kept) in found.items()}
