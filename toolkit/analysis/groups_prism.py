"""Prism's own measures of traffic to many models (section on trace analysis), with the counting rules it leaves open.

A model is active at t when a request for it arrived in the trailing window (t − window, t]. Every entry into the active
set and every exit from it, up to the last arrival, is a switch; changes at one instant are one switch. Times run from
the first to the last arrival of the trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.idle import minute_cv
from toolkit.analysis.lanes import MINUTE_S, Floats, LaneActivity, Lanes
from toolkit.analysis.windows import fitting_window_s, whole_windows, window_of

DAY_S = 86400.0
IDLE_S = 10.0
DAY_BIN_S = 600.0  # the paper names no bin for the rates that it correlates from day to day
PERSISTENT = 0.5  # ours: a model is persistent that is active for more than this share of the time

_f, _i = pl.Float64(), pl.Int64()
PRISM = pl.Schema(
    {
        "active_window_s": _f,
        "models": _i,
        "switches": _i,
        "switches_per_hour": _f,
        "switches_per_hour_without_first": _f,
        "mean_active_share": _f,
        "idle_per_h_p50": _f,
        "idle_per_h_max": _f,
        "rate_cv_p50": _f,
        "rate_cv_above_1_share": _f,
        "rate_cv_above_half_share": _f,
        "day_correlation_p50": _f,
        "persistent_models": _i,
        "sporadic_models": _i,
        "jaccard_mean": _f,
    }
)
PRESENCE = pl.Schema(
    {
        "name": pl.String(),
        "requests": _i,
        "active_share": _f,
        "spells": _i,
        "dwell_mean_s": _f,
        "persistence": pl.String(),
        "day_correlation": _f,
    }
)
ACTIVE = pl.Schema({"start_s": _f, "window_s": _f, "active": _f, "jaccard": _f})


DAYS = pl.Schema({"name": pl.String(), "bin": _i, "requests": _i})


@dataclass(frozen=True)
class Present:
    """What each model does in a part of a trace of `span_s`, and requests by model and DAY_BIN_S of whole days."""

    activity: LaneActivity
    days: pl.DataFrame
    active_s: float
    span_s: float

    @classmethod
    def of(cls, lanes: Lanes, active_s: float, span_s: float) -> "Present":
        """Of a part; times are from the whole trace's first arrival."""
        bins = whole_windows(span_s, DAY_S) * round(DAY_S / DAY_BIN_S)
        at = window_of(lanes.time_s, DAY_BIN_S)
        cells = pl.DataFrame({"lane": lanes.groups.index, "bin": at}).filter(pl.col("bin") < bins)
        counted = cells.group_by("lane", "bin").len("requests")
        names = pl.Series("name", lanes.names, dtype=pl.String)
        days = counted.select(names.gather(counted["lane"]), "bin", "requests").cast(DAYS)
        activity = LaneActivity.of(lanes, IDLE_S, whole_windows(span_s, MINUTE_S), active_s)
        return cls(activity, days, active_s, span_s)

    @classmethod
    def merged(cls, parts: "Sequence[Present]") -> "Present":
        """All parts in order of time, busiest model first."""
        activity = LaneActivity.merged([part.activity for part in parts], IDLE_S, parts[0].active_s)
        order = sorted(range(len(activity.names)), key=lambda k: (-activity.requests[k], activity.names[k]))
        days = pl.concat([part.days for part in parts])
        return cls(activity.sorted(order), days, parts[0].active_s, parts[0].span_s)


@dataclass(frozen=True)
class Spells:
    """The stretches in which a model is active: `lane` counts the models as Present does."""

    lane: NDArray[np.integer]
    begin_s: Floats
    end_s: Floats  # may lie after the trace's end
    last_s: float  # the trace's last arrival

    @classmethod
    def of(cls, present: Present) -> "Spells":
        activity = present.activity
        return cls(activity.lane, activity.wakes_s, activity.sleeps_s + present.active_s, present.span_s)

    @property
    def switch_s(self) -> Floats:
        """Every instant at which the active set changes, once each."""
        changes: Floats = np.unique(np.concatenate([self.begin_s, self.end_s[self.end_s <= self.last_s]]))
        return changes

    @property
    def seconds(self) -> Floats:
        return np.minimum(self.end_s, self.last_s) - self.begin_s


def prism(present: Present) -> dict[str, pl.DataFrame]:
    """One row of PRISM, PRESENCE a model, ACTIVE over time."""
    spells, models, span_s = Spells.of(present), len(present.activity.names), present.span_s
    presence, active = presence_of(present, spells), active_over_time(spells, models)
    hours, switches = span_s / 3600, len(spells.switch_s)
    idle = present.activity.idle / hours
    cv = minute_cv(present.activity, whole_windows(span_s, MINUTE_S))
    known = cv[~np.isnan(cv)]
    persistent = int((presence["persistence"] == "persistent").sum())
    row = {
        "active_window_s": present.active_s,
        "models": models,
        "switches": switches,
        "switches_per_hour": switches / hours,
        "switches_per_hour_without_first": (switches - 1) / hours,
        "mean_active_share": float(spells.seconds.sum() / span_s / models),
        "idle_per_h_p50": float(np.median(idle)),
        "idle_per_h_max": float(idle.max()),
        "rate_cv_p50": float(np.median(known)) if len(known) else None,
        "rate_cv_above_1_share": float((known > 1).mean()) if len(known) else None,
        "rate_cv_above_half_share": float((known > 0.5).mean()) if len(known) else None,
        "day_correlation_p50": presence["day_correlation"].median(),
        "persistent_models": persistent,
        "sporadic_models": models - persistent,
        "jaccard_mean": active["jaccard"].mean(),
    }
    return {"prism": pl.DataFrame([row], schema=PRISM), "presence": presence, "active": active}


def presence_of(present: Present, spells: Spells) -> pl.DataFrame:
    """How much of the time each model is active, busiest first."""
    models = len(present.activity.names)
    active_s = np.bincount(spells.lane, weights=spells.seconds, minlength=models)
    count = np.bincount(spells.lane, minlength=models)
    share = active_s / present.span_s
    columns = {
        "name": pl.Series(present.activity.names, dtype=pl.String),
        "requests": present.activity.requests,
        "active_share": share,
        "spells": count,
        "dwell_mean_s": active_s / count,
        "persistence": np.where(share > PERSISTENT, "persistent", "sporadic"),
        "day_correlation": day_correlation(present),
    }
    return pl.DataFrame(columns, schema=PRESENCE, nan_to_null=True)


def day_correlation(present: Present) -> Floats:
    """Mean over pairs of consecutive whole days of the correlation of a model's rates; NaN below two days."""
    days, models = whole_windows(present.span_s, DAY_S), len(present.activity.names)
    if days < 2:
        return np.full(models, np.nan)
    bins = round(DAY_S / DAY_BIN_S)
    place = pl.Series(range(models), dtype=_i)
    lane = present.days["name"].replace_strict(pl.Series(present.activity.names), place).to_numpy()
    index = lane * (days * bins) + present.days["bin"].to_numpy()
    weights = present.days["requests"].to_numpy()
    counts = np.bincount(index, weights=weights, minlength=models * days * bins).reshape(models, days, bins)
    centred = counts - counts.mean(axis=2, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=2))
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = (centred[:, 1:] * centred[:, :-1]).sum(axis=2) / (size[:, 1:] * size[:, :-1])
    known = np.isfinite(pairs)
    counted = known.sum(axis=1)
    mean: Floats = np.where(known, pairs, 0).sum(axis=1) / np.where(counted, counted, np.nan)
    return mean


def active_over_time(spells: Spells, models: int) -> pl.DataFrame:
    """Active models at the start of each window, and how much of the set was there a window before (Jaccard)."""
    window_s = fitting_window_s(spells.last_s, None)
    at_s = np.arange(0, spells.last_s, window_s)
    first = np.searchsorted(at_s, spells.begin_s, side="left")
    until = np.searchsorted(at_s, spells.end_s, side="left")
    steps = np.zeros((models, len(at_s) + 1), dtype=np.int32)
    np.add.at(steps, (spells.lane, first), 1)
    np.add.at(steps, (spells.lane, until), -1)
    member = np.cumsum(steps, axis=1)[:, :-1] > 0
    both = (member[:, 1:] & member[:, :-1]).sum(axis=0)
    either = (member[:, 1:] | member[:, :-1]).sum(axis=0)
    jaccard = np.append(np.nan, both / np.where(either, either, np.nan))
    columns = {"start_s": at_s, "window_s": np.full(len(at_s), window_s), "active": member.sum(axis=0)}
    return pl.DataFrame(columns | {"jaccard": jaccard}, schema=ACTIVE, nan_to_null=True)
