"""Which models stand still, and how much is in flight."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.windows import EDGE, fitting_window_s, whole_windows
from toolkit.traces import TraceInfo

Floats = NDArray[np.float64]
ACTIVE_S = 120.0  # a model is active that received a request within this time, (t − 120, t]
MINUTE_S = 60.0

_f, _i = pl.Float64(), pl.Int64()
MODELS = pl.Schema(
    {
        "model": pl.String(),
        "requests": _i,
        "idle_intervals": _i,
        "idle_per_h": _f,
        "idle_s": _f,
        "idle_share": _f,
        "longest_s": _f,
        "rate_cv": _f,
    }
)
CONCURRENCY = pl.Schema({"start_s": _f, "window_s": _f, "mean": _f, "max": _i})
SUMMARY = pl.Schema(
    {
        "basis": pl.String(),
        "mean": _f,
        "p50": _f,
        "p99": _f,
        "max": _i,
        "models": _i,
        "idle_intervals": _i,
        "idle_per_h_p50": _f,
        "idle_per_h_max": _f,
    }
)


@dataclass(frozen=True)
class Level:
    """A count that changes at `time_s` to `count`, from time 0 until `end_s`."""

    basis: str
    time_s: Floats
    count: NDArray[np.int64]
    end_s: float


class Idle:
    """Which models stand still, for how long, and how much is in flight at once."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "model", "source_e2e_s")

    def __init__(self, threshold_s: float = 10.0):
        self.threshold_s = threshold_s

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        timed = frame.filter(pl.col("arrival_s").is_not_null())
        if not timed.height or timed["arrival_s"].max() == timed["arrival_s"].min():
            return {"models": MODELS.to_frame(), "concurrency": CONCURRENCY.to_frame(), "summary": SUMMARY.to_frame()}
        timed = timed.with_columns(pl.col("arrival_s") - pl.col("arrival_s").min())
        models = idle_models(timed, self.threshold_s)
        level = in_flight(timed) or active_models(timed)
        over_time = concurrency(level, info.clock_step_s) if level else CONCURRENCY.to_frame()
        return {"models": models, "concurrency": over_time, "summary": summary(models, level)}


def idle_models(frame: pl.DataFrame, threshold_s: float) -> pl.DataFrame:
    """Gaps above the threshold between a model's consecutive requests; busiest model first."""
    span_s = float(frame["arrival_s"].max())  # type: ignore[arg-type]
    gap = pl.col("arrival_s").diff()
    idle = gap.filter(gap > threshold_s)
    table = frame.group_by("model").agg(
        requests=pl.len().cast(pl.Int64),
        idle_intervals=idle.len().cast(pl.Int64),
        idle_s=idle.sum(),
        longest_s=gap.max(),
    )
    cv = rate_cv(frame, whole_windows(span_s, MINUTE_S))
    return (
        table.join(cv, on="model", how="left", nulls_equal=True)
        .with_columns(
            pl.col("model").cast(pl.String),
            idle_per_h=pl.col("idle_intervals") * 3600 / span_s,
            idle_share=pl.col("idle_s") / span_s,
        )
        .select(MODELS.names())
        .sort("requests", "model", descending=[True, False])
    )


def rate_cv(frame: pl.DataFrame, minutes: int) -> pl.DataFrame:
    """Coefficient of variation of each model's requests a minute, minutes without any included."""
    minute = (pl.col("arrival_s") / MINUTE_S + EDGE).cast(pl.Int64)
    counts = frame.group_by("model", minute=minute).len().filter(pl.col("minute") < minutes)
    requests = pl.col("len").cast(pl.Float64)
    mean = requests.sum() / minutes
    variance = ((requests**2).sum() - minutes * mean**2) / (minutes - 1)
    cv = (variance.clip(0).sqrt() / mean) if minutes >= 2 else pl.lit(None, dtype=pl.Float64)
    return counts.group_by("model").agg(rate_cv=cv)


def in_flight(frame: pl.DataFrame) -> Level | None:
    """Requests between arrival and measured end; null when the source measured none."""
    known = frame.filter(pl.col("source_e2e_s").is_not_null())
    if not known.height:
        return None
    arrival_s = known["arrival_s"].to_numpy()
    return _level("requests in flight", arrival_s, arrival_s + known["source_e2e_s"].to_numpy())


def active_models(frame: pl.DataFrame) -> Level | None:
    """Models that received a request within the last ACTIVE_S; null with fewer than two models."""
    if frame["model"].n_unique() < 2:
        return None
    ends = pl.col("arrival_s") + ACTIVE_S
    following = pl.col("arrival_s").shift(-1)
    spells = frame.select(
        "arrival_s",
        begins=(pl.col("arrival_s") - pl.col("arrival_s").shift(1) > ACTIVE_S).fill_null(True).over("model"),
        ends=pl.when((following - pl.col("arrival_s") > ACTIVE_S).fill_null(True)).then(ends).over("model"),
    )
    begin_s = spells.filter("begins")["arrival_s"].to_numpy()
    end_s = spells["ends"].drop_nulls().sort().to_numpy()
    last_s = float(frame["arrival_s"].max())  # type: ignore[arg-type]
    return _level(f"models active in {ACTIVE_S:g} s", begin_s, np.minimum(end_s, last_s))


def _level(basis: str, begin_s: Floats, end_s: Floats) -> Level:
    time_s = np.concatenate([np.sort(end_s), begin_s])  # an end at the same instant counts first
    order = np.argsort(time_s, kind="stable")
    change = np.where(order < len(end_s), -1, 1)
    count = np.cumsum(change)
    if len(count) and count.min() < 0:  # zero-length stays end before they begin
        count = np.maximum(count, 0)
    return Level(basis, time_s[order], count, float(time_s.max()))


def concurrency(level: Level, clock_step_s: float | None) -> pl.DataFrame:
    """Mean over time and maximum in windows back to back."""
    window_s = fitting_window_s(level.end_s, clock_step_s)
    windows = max(1, int(np.ceil(level.end_s / window_s - EDGE)))
    edge_s = np.minimum(np.arange(windows + 1) * window_s, level.end_s)
    area = np.concatenate([[0.0], np.cumsum(level.count[:-1] * np.diff(level.time_s))])
    spent = np.diff(np.interp(edge_s, level.time_s, area))
    first = np.searchsorted(level.time_s, edge_s[:-1], side="right")
    standing = np.where(first > 0, level.count[np.maximum(first - 1, 0)], 0)
    padded = np.append(level.count, 0)
    peak = np.maximum.reduceat(padded, np.minimum(first, len(level.count)))
    changed = np.diff(np.append(first, len(level.count))) > 0
    highest = np.where(changed, np.maximum(peak, standing), standing)
    columns = {"start_s": edge_s[:-1], "window_s": np.full(windows, window_s), "mean": spent / np.diff(edge_s)}
    return pl.DataFrame(columns | {"max": highest}, schema=CONCURRENCY)


def summary(models: pl.DataFrame, level: Level | None) -> pl.DataFrame:
    """One row over the whole trace; concurrency is weighted by time and null where nothing tells it."""
    row: dict[str, object] = {
        "models": models.height,
        "idle_intervals": models["idle_intervals"].sum(),
        "idle_per_h_p50": models["idle_per_h"].median(),
        "idle_per_h_max": models["idle_per_h"].max(),
    }
    if level:
        spent_s = np.bincount(level.count[:-1], weights=np.diff(level.time_s))
        below = np.cumsum(spent_s) / spent_s.sum()
        p50, p99 = (int(np.searchsorted(below, q)) for q in (0.5, 0.99))
        mean = float(spent_s @ np.arange(len(spent_s)) / spent_s.sum())
        row |= {"basis": level.basis, "mean": mean, "p50": p50, "p99": p99, "max": int(level.count.max())}
    return pl.DataFrame([row], schema=SUMMARY)
