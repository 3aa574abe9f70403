"""Which model held how much of which GPU's memory when, from the loads, evictions and samples of a run on a cluster."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports.measured import Measured

COMES, GOES = ("load", "migrate"), ("evict", "leave")
WINDOW_S = 120.0  # Prism's: a model is active that had a request within it

Floats = NDArray[np.float64]


def on_cluster(run: Measured) -> bool:
    """Whether the run has several models that come and go, or live side by side."""
    return run.events.filter(pl.col("kind").is_in(COMES) & pl.col("bytes").is_not_null()).height > 0


def stays(run: Measured) -> pl.DataFrame:
    """One row each time a model is on a GPU: gpu, model, begin_s (when its load began), end_s (null: the run's end),
    bytes of weights.
    """
    moved = run.events.filter(pl.col("kind").is_in([*COMES, *GOES])).sort("time_s", maintain_order=True)
    rows: list[dict[str, Any]] = []
    here: dict[tuple[str, str], dict[str, Any]] = {}
    for event in moved.iter_rows(named=True):
        key = (event["gpu"], event["model"])
        if event["kind"] in COMES:
            here[key] = {"gpu": key[0], "model": key[1], "begin_s": event["time_s"], "end_s": None}
            here[key]["bytes"] = event["bytes"]
            rows.append(here[key])
        elif key in here:
            here.pop(key)["end_s"] = event["time_s"]
    schema = {"gpu": pl.String, "model": pl.String, "begin_s": pl.Float64, "end_s": pl.Float64, "bytes": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def memory(run: Measured, start: float, width: float, bins: int) -> pl.DataFrame:
    """One row a bin, GPU and model there: time_s, gpu, model, weights_bytes and kv_bytes, means over the bin."""
    edges: Floats = start + width * np.arange(bins + 1, dtype=np.float64)
    parts = [_stay(row, edges) for row in stays(run).iter_rows(named=True)]
    schema = {"bin": pl.Int32, "gpu": pl.String, "model": pl.String, "weights_bytes": pl.Float64}
    found = pl.concat([pl.DataFrame(schema=schema), *(p.cast(schema) for p in parts)])  # type: ignore[arg-type]
    found = found.group_by("bin", "gpu", "model").agg(pl.col("weights_bytes").sum())
    at = ((pl.col("time_s") - start) / width).floor().cast(pl.Int32).alias("bin")
    kv = run.timeline.group_by(at, "gpu", "model").agg(pl.col("kv_bytes").mean().cast(pl.Float64))
    joined = found.join(kv, on=["bin", "gpu", "model"], how="left").with_columns(pl.col("kv_bytes").fill_null(0.0))
    middle = (start + (pl.col("bin") + 0.5) * width).alias("time_s")
    return joined.sort("bin", "gpu", "model").select(middle, "gpu", "model", "weights_bytes", "kv_bytes")


def _stay(row: dict[str, Any], edges: Floats) -> pl.DataFrame:
    """The bins of one stay, its bytes by the share of the bin that it was there."""
    end = edges[-1] if row["end_s"] is None else row["end_s"]
    share = np.clip(np.minimum(end, edges[1:]) - np.maximum(row["begin_s"], edges[:-1]), 0, None) / np.diff(edges)
    at = np.flatnonzero(share > 0)
    return pl.DataFrame(
        {"bin": at, "gpu": row["gpu"], "model": row["model"], "weights_bytes": share[at] * row["bytes"]}
    )


def active_set(run: Measured, start: float, width: float, bins: int) -> pl.DataFrame:
    """Models that had a request within the last two minutes, at the middle of each bin: time_s, active."""
    middles = start + width * (np.arange(bins) + 0.5)
    active = np.zeros(bins, np.int64)
    for (_model,), part in run.frame.group_by("model"):
        arrival = np.sort(part["arrival_s"].drop_nulls().to_numpy())
        counts = np.searchsorted(arrival, middles, side="right") - np.searchsorted(
            arrival, middles - WINDOW_S, side="right"
        )
        active += counts > 0
    return pl.DataFrame({"time_s": middles, "active": active})
