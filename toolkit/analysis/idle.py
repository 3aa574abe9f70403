"""Which models stand still, and how much is in flight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.categories import Categories
from toolkit.analysis.tallies import Tally
from toolkit.analysis.whole import Whole
from toolkit.analysis.windows import EDGE, fitting_window_s, occupied, whole_windows
from toolkit.grouping import Groups, grouped_few
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


@dataclass(frozen=True)
class Lane:
    """One model in a part of the trace; times count from the whole trace's first arrival."""

    requests: int
    first_s: float
    last_s: float
    longest_s: float  # gap; minus infinity with one request
    idle_s: Floats  # every gap above the threshold
    minutes: Tally  # requests a minute, those of the cut, last one left out
    wakes_s: Floats  # where spells of activity begin, and at which request they end
    sleeps_s: Floats

    def joined(self, later: "Lane", threshold_s: float) -> "Lane":
        """With a later part, and the gap between them."""
        gap_s = later.first_s - self.last_s
        between, same = np.array([gap_s] if gap_s > threshold_s else []), int(gap_s <= ACTIVE_S)
        return Lane(
            self.requests + later.requests,
            self.first_s,
            later.last_s,
            max(self.longest_s, gap_s, later.longest_s),
            np.concatenate([self.idle_s, between, later.idle_s]),
            self.minutes.joined(later.minutes),
            np.concatenate([self.wakes_s, later.wakes_s[same:]]),
            np.concatenate([self.sleeps_s[: len(self.sleeps_s) - same], later.sleeps_s]),
        )


@dataclass(frozen=True)
class Stays:
    """A part of the trace: its models, and when each request that the source measured began and ended."""

    lanes: dict[str | None, Lane]
    begin_s: Floats
    end_s: Floats


class Idle:
    """Which models stand still, for how long, and how much is in flight at once."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "model", "source_e2e_s")

    def __init__(self, threshold_s: float = 10.0):
        self.threshold_s = threshold_s

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        whole = Whole.of(frame["arrival_s"], info)
        return self.finish([self.partial(frame, whole)], whole)

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Stays | None:
        """A part's models; null where nothing arrived, or all at once."""
        timed = frame.filter(pl.col("arrival_s").is_not_null())
        if not len(timed) or whole.span_s == 0:
            return None
        lanes = Lanes.of(timed["model"], timed["arrival_s"].to_numpy() - whole.first_s)
        measured = timed["source_e2e_s"].is_not_null().to_numpy()
        begin_s = lanes.arrival_s[measured]
        end_s = begin_s + timed["source_e2e_s"].drop_nulls().to_numpy()
        return Stays(each(lanes, self.threshold_s, whole_windows(whole.span_s, MINUTE_S)), begin_s, end_s)

    def finish(self, parts: Sequence[Stays | None], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time."""
        known = [part for part in parts if part]
        if not known:
            return {"models": MODELS.to_frame(), "concurrency": CONCURRENCY.to_frame(), "summary": SUMMARY.to_frame()}
        lanes: dict[str | None, Lane] = {}
        for part in known:
            for name, lane in part.lanes.items():
                lanes[name] = lanes[name].joined(lane, self.threshold_s) if name in lanes else lane
        models = idle_models(lanes, whole.span_s)
        level = in_flight(known) or active_models(lanes, whole.span_s)
        over_time = concurrency(level, whole.info.clock_step_s) if level else CONCURRENCY.to_frame()
        return {"models": models, "concurrency": over_time, "summary": summary(models, level)}


@dataclass(frozen=True)
class Lanes:
    """Arrivals model by model: `time_s` in the groups' order, `gap_s` since the model's last request (NaN at first)."""

    names: list[str | None]
    groups: Groups
    arrival_s: Floats
    time_s: Floats
    gap_s: Floats

    @classmethod
    def of(cls, model: pl.Series, arrival_s: Floats) -> "Lanes":
        groups = grouped_few(Categories(model).numbers)
        time_s = arrival_s[groups.order]
        gap_s = np.diff(time_s, prepend=0)
        gap_s[groups.starts[:-1]] = np.nan
        names = model.gather(groups.order[groups.starts[:-1]]).cast(pl.String).to_list()
        return cls(names, groups, arrival_s, time_s, gap_s)

    @property
    def span_s(self) -> float:
        return float(self.arrival_s[-1])

    def per_model(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many places of each model `mask` marks."""
        return np.add.reduceat(mask, self.groups.starts[:-1], dtype=np.int64)


def each(lanes: Lanes, threshold_s: float, minutes: int) -> dict[str | None, Lane]:
    """The lanes one by one."""
    starts, requests = lanes.groups.starts, len(lanes.time_s)
    idle = np.flatnonzero(lanes.gap_s > threshold_s)
    wakes = np.union1d(np.flatnonzero(lanes.gap_s > ACTIVE_S), starts[:-1])
    sleeps = np.append(wakes[1:], requests) - 1  # a spell's last request is the one before the next spell's first
    of_idle, of_spells = (np.searchsorted(at, starts) for at in (idle, wakes))
    longest_s = np.fmax.reduceat(lanes.gap_s, starts[:-1])  # NaN where there is one request
    found = {}
    for k, name in enumerate(lanes.names):
        (a, b), (c, d), (e, f) = (at[k : k + 2] for at in (starts, of_idle, of_spells))
        found[name] = Lane(
            int(b - a),
            float(lanes.time_s[a]),
            float(lanes.time_s[b - 1]),
            float(np.nan_to_num(longest_s[k], nan=-np.inf)),
            lanes.gap_s[idle[c:d]],
            Tally.of(*occupied(lanes.time_s[a:b], MINUTE_S, minutes)),
            lanes.time_s[wakes[e:f]],
            lanes.time_s[sleeps[e:f]],
        )
    return found


def idle_models(lanes: dict[str | None, Lane], span_s: float) -> pl.DataFrame:
    """Gaps above the threshold between a model's consecutive requests; busiest model first."""
    idle_s = np.array([lane.idle_s.sum() for lane in lanes.values()])
    intervals = np.array([len(lane.idle_s) for lane in lanes.values()])
    longest_s = np.array([lane.longest_s for lane in lanes.values()])
    columns = {
        "model": pl.Series(list(lanes), dtype=pl.String),
        "requests": [lane.requests for lane in lanes.values()],
        "idle_intervals": intervals,
        "idle_per_h": intervals * 3600 / span_s,
        "idle_s": idle_s,
        "idle_share": idle_s / span_s,
        "longest_s": np.where(np.isinf(longest_s), np.nan, longest_s),
        "rate_cv": minute_cv([lane.minutes for lane in lanes.values()], whole_windows(span_s, MINUTE_S)),
    }
    table = pl.DataFrame(columns, schema=MODELS, nan_to_null=True)
    return table.sort("requests", "model", descending=[True, False])


def rate_cv(lanes: Lanes, minutes: int) -> Floats:
    """Each model's `minute_cv`."""
    return minute_cv([lane.minutes for lane in each(lanes, np.inf, minutes).values()], minutes)


def minute_cv(models: Sequence[Tally], minutes: int) -> Floats:
    """Coefficient of variation of each model's requests a minute, minutes without any included; NaN below two.

    As in Prism (section on trace analysis), with all minutes in the denominator of the variance.
    """
    if minutes < 2:
        return np.full(len(models), np.nan)
    mean = np.array([model.total for model in models]) / minutes
    variance = np.array([model.all_squares for model in models], dtype=np.float64) / minutes - mean**2
    with np.errstate(invalid="ignore"):
        cv: Floats = np.sqrt(np.maximum(variance, 0)) / mean
    return cv


def in_flight(parts: Sequence[Stays]) -> Level | None:
    """Requests between arrival and measured end; null when the source measured none."""
    begin_s = np.concatenate([part.begin_s for part in parts])
    if not len(begin_s):
        return None
    return _level("requests in flight", begin_s, np.sort(np.concatenate([part.end_s for part in parts])))


def active_models(lanes: dict[str | None, Lane], span_s: float) -> Level | None:
    """Models that received a request within the last ACTIVE_S; null with fewer than two models."""
    if len(lanes) < 2:
        return None
    wakes_s = np.concatenate([lane.wakes_s for lane in lanes.values()])
    sleeps_s = np.concatenate([lane.sleeps_s for lane in lanes.values()])
    end_s = np.minimum(sleeps_s + ACTIVE_S, span_s)
    return _level(f"models active in {ACTIVE_S:g} s", np.sort(wakes_s), np.sort(end_s))


def _level(basis: str, begin_s: Floats, end_s: Floats) -> Level:
    """Merge sorted begins and ends; at the same instant an end counts first."""
    place = np.arange(len(begin_s)) + np.searchsorted(end_s, begin_s, side="right")
    begins = np.zeros(2 * len(begin_s), dtype=bool)
    begins[place] = True
    time_s = np.empty(len(begins))
    time_s[begins], time_s[~begins] = begin_s, end_s
    # A stay of no length ends before it begins: not below zero.
    count = np.maximum(np.cumsum(np.where(begins, 1, -1), dtype=np.int64), 0)
    return Level(basis, time_s, count, float(time_s[-1]))


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
