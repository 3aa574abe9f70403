"""A run over time: latency percentiles, queue, running, KV use and arrivals on one grid of time bins."""

import math

import numpy as np
import polars as pl

from reports.measured import Measured

BINS = 150
STEPS = (1, 2, 5, 10)


def bin_width(span_s: float, bins: int = BINS) -> float:
    """A round width (1, 2 or 5 × a power of ten) that cuts `span_s` into at most `bins` bins."""
    if span_s <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span_s / bins))
    return next(power * s for s in STEPS if power * s >= span_s / bins * (1 - 1e-9))


def span_of(runs: list[Measured]) -> tuple[float, float]:
    """From the earliest arrival to the latest finish over all runs."""
    starts = [float(s) for r in runs if isinstance(s := r.frame["arrival_s"].min(), float)]
    start = min(starts, default=0.0)
    return start, max((start + (r.span_s or 0.0) for r in runs), default=start)


def over_time(run: Measured, start: float, width: float) -> pl.DataFrame:
    """One row a bin by *arrival*: time_s (its middle), arrivals_per_s, P50 and P99 of TTFT and E2E, state of engine."""
    at = ((pl.col("arrival_s") - start) / width).floor().cast(pl.Int32)
    latencies = (
        run.frame.lazy()
        .select("ttft_s", "e2e_s", bin=at)
        .drop_nulls("bin")
        .group_by("bin")
        .agg(
            arrivals_per_s=pl.len() / width,
            **{f"{m}_p50": pl.col(f"{m}_s").median() for m in ("ttft", "e2e")},
            **{f"{m}_p99": pl.col(f"{m}_s").quantile(0.99, "linear") for m in ("ttft", "e2e")},
        )
        .collect()
    )
    state = engine_state(run, start, width) if run.timeline.height else counted_state(run, start, width)
    joined = latencies.join(state, on="bin", how="full", coalesce=True).sort("bin")
    middle = (start + (pl.col("bin") + 0.5) * width).alias("time_s")
    return joined.select(middle, pl.exclude("bin")).with_columns(pl.col("arrivals_per_s").fill_null(0.0))


def engine_state(run: Measured, start: float, width: float) -> pl.DataFrame:
    """Mean queue, running and KV use a bin from the engine's samples, summed over its GPUs and models."""
    at = ((pl.col("time_s") - start) / width).floor().cast(pl.Int32).alias("bin")
    kv_used, kv_total = pl.col("kv_used_blocks"), pl.col("kv_total_blocks")
    return (
        run.timeline.lazy()
        .group_by(at, "gpu", "model")
        .agg(pl.col("queue", "running").mean(), used=kv_used.mean(), total=kv_total.mean())
        .group_by("bin")
        .agg(
            pl.when(pl.col(c).count() > 0).then(pl.col(c).sum()).alias(c) for c in ("queue", "running", "used", "total")
        )
        .select("bin", "queue", "running", kv_use=pl.col("used") / pl.col("total"))
        .collect()
    )


def counted_state(run: Measured, start: float, width: float) -> pl.DataFrame:
    """Queue and running at the middle of each bin, counted from the outcomes where the engine gave no samples."""
    begun = run.frame.select("arrival_s", "start_s", "finish_s").drop_nulls()
    end = begun["finish_s"].max()
    bins = int((end - start) / width) + 1 if isinstance(end, float) else 0
    middles = start + (np.arange(bins) + 0.5) * width
    passed = {c: np.searchsorted(np.sort(begun[c].to_numpy()), middles, side="right") for c in begun.columns}
    queue, running = passed["arrival_s"] - passed["start_s"], passed["start_s"] - passed["finish_s"]
    columns = {"queue": queue, "running": running, "kv_use": np.full(bins, np.nan)}
    return pl.DataFrame({"bin": np.arange(bins), **columns}).with_columns(
        pl.col("bin").cast(pl.Int32), pl.col("queue", "running").cast(pl.Float64), pl.col("kv_use").fill_nan(None)
    )


def event_marks(run: Measured, start: float, width: float) -> pl.DataFrame:
    """Events counted a bin and kind: kind, time_s, events, duration_s."""
    at = ((pl.col("time_s") - start) / width).floor()
    return (
        run.events.lazy()
        .with_columns(time_s=start + (at + 0.5) * width)
        .group_by("kind", "time_s")
        .agg(events=pl.len(), duration_s=pl.col("duration_s").sum())
        .sort("kind", "time_s")
        .collect()
    )
