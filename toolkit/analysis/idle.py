"""Which models stand still, and how much is in flight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.in_flight import Reach, in_flight, stays, windows_of
from toolkit.analysis.known import known
from toolkit.analysis.lanes import MINUTE_S, NS, LaneActivity, Lanes
from toolkit.analysis.levels import CONCURRENCY, Level, Windows
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.whole import Whole
from toolkit.analysis.windows import whole_windows
from toolkit.traces import TraceInfo

Floats = NDArray[np.float64]
SLICE = 2**18  # requests that are looked at at once: what is made of them stays near the core
ACTIVE_S = 120.0  # a model is active that received a request within this time, (t − 120, t]

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
class Stays:
    """A part of the trace: its models, and how far its requests reach into later parts."""

    activity: LaneActivity
    reach: Reach | None


class Idle:
    """Which models stand still, for how long, and how much is in flight at once."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "model", "source_e2e_s")

    def __init__(self, threshold_s: float = 10.0):
        self.threshold_s = threshold_s

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        return in_one_piece(self, frame, Whole.of(frame, info))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Stays | None:
        """A part's models, and how far what is in flight reaches; null where nothing arrived, or all at once."""
        timed = known(frame, "arrival_s")
        if not len(timed) or whole.span_s == 0:
            return None
        minutes = whole_windows(whole.span_s, MINUTE_S)
        found = []
        for rows in timed.iter_slices(SLICE):
            lanes = Lanes.of(rows["model"], rows["arrival_s"].to_numpy() - whole.first_s)
            found.append(LaneActivity.of(lanes, self.threshold_s, minutes, ACTIVE_S))
        return Stays(LaneActivity.merged(found, self.threshold_s, ACTIVE_S), Reach.of(timed))

    def told(self, parts: Sequence[Stays | None], whole: Whole) -> list[Reach | None]:
        """How far each part reaches into others."""
        return [part.reach if part else None for part in parts]

    def again(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The requests that the source measured."""
        return stays(frame)

    def second(self, rows: pl.DataFrame, whole: Whole) -> Level | None:
        """What is in flight in a part's time; null where the source measured nothing."""
        return in_flight(rows, whole)

    def finish(self, parts: Sequence[tuple[Stays | None, Level | None]], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time."""
        present = [part for part, _ in parts if part]
        if not present:
            return {"models": MODELS.to_frame(), "concurrency": CONCURRENCY.to_frame(), "summary": SUMMARY.to_frame()}
        activity = LaneActivity.merged([part.activity for part in present], self.threshold_s, ACTIVE_S)
        models = idle_models(activity, whole.span_s)
        windows, basis = windows_of(whole), "requests in flight"
        levels = [level for _, level in parts if level]
        over_time = (Level.merged(levels), windows) if levels and windows else None
        if over_time is None:
            over_time, basis = active_models(activity, whole), f"models active in {ACTIVE_S:g} s"
        table = over_time[0].table(over_time[1]) if over_time else CONCURRENCY.to_frame()
        return {
            "models": models,
            "concurrency": table,
            "summary": summary(models, over_time and over_time[0], basis),
        }


def idle_models(activity: LaneActivity, span_s: float) -> pl.DataFrame:
    """Gaps above the threshold between a model's consecutive requests; busiest model first."""
    idle_s = activity.idle_ns / NS
    columns = {
        "model": pl.Series(activity.names, dtype=pl.String),
        "requests": activity.requests,
        "idle_intervals": activity.idle,
        "idle_per_h": activity.idle * 3600 / span_s,
        "idle_s": idle_s,
        "idle_share": idle_s / span_s,
        "longest_s": np.where(np.isinf(activity.longest_s), np.nan, activity.longest_s),
        "rate_cv": minute_cv(activity, whole_windows(span_s, MINUTE_S)),
    }
    table = pl.DataFrame(columns, schema=MODELS, nan_to_null=True)
    return table.sort("requests", "model", descending=[True, False])


def minute_cv(activity: LaneActivity, minutes: int) -> Floats:
    """Coefficient of variation of each model's requests a minute, minutes without any included; NaN below two.

    As in Prism (section on trace analysis), with all minutes in the denominator of the variance.
    """
    if minutes < 2:
        return np.full(len(activity.names), np.nan)
    mean = activity.minutes.requests / minutes
    variance = activity.minutes.all_squares / minutes - mean**2
    with np.errstate(invalid="ignore"):
        cv: Floats = np.sqrt(np.maximum(variance, 0)) / mean
    return cv


def active_models(activity: LaneActivity, whole: Whole) -> tuple[Level, Windows] | None:
    """Models that received a request within the last ACTIVE_S; null with fewer than two models."""
    if len(activity.names) < 2:
        return None
    end_s = np.sort(np.minimum(activity.sleeps_s + ACTIVE_S, whole.span_s))
    windows = Windows.upto(whole.span_s, whole.info.clock_step_s)
    return Level.of(np.sort(activity.wakes_s), end_s, windows), windows


def summary(models: pl.DataFrame, level: Level | None, basis: str) -> pl.DataFrame:
    """One row over the whole trace; concurrency is weighted by time and null where nothing tells it."""
    row: dict[str, object] = {
        "models": models.height,
        "idle_intervals": models["idle_intervals"].sum(),
        "idle_per_h_p50": models["idle_per_h"].median(),
        "idle_per_h_max": models["idle_per_h"].max(),
    }
    if level:
        p50, p99 = (level.quantile(q) for q in (0.5, 0.99))
        row |= {"basis": basis, "mean": level.mean, "p50": p50, "p99": p99, "max": level.highest}
    return pl.DataFrame([row], schema=SUMMARY)
