"""Which models stand still, and how much is in flight."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.categories import Categories
from toolkit.analysis.in_flight import Reach, in_flight, stays, windows_of
from toolkit.analysis.known import known
from toolkit.analysis.levels import CONCURRENCY, Level, Windows
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.tallies import Tally
from toolkit.analysis.whole import Whole
from toolkit.analysis.windows import occupied, whole_windows, window_of
from toolkit.grouping import Groups, grouped_few
from toolkit.traces import TraceInfo

Floats = NDArray[np.float64]
ACTIVE_S = 120.0  # a model is active that received a request within this time, (t − 120, t]
MINUTE_S = 60.0
LONG = 1_000  # requests of a model, from which its minutes are looked up in less time than those of all at once
NS = 1e9  # in a second: what sums are made of, whole, so that no order of adding up can change them

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
class Lane:
    """One model in a part of the trace; times count from the whole trace's first arrival."""

    requests: int
    first_s: float
    last_s: float
    longest_s: float  # gap; minus infinity with one request
    idle: int  # gaps above the threshold
    idle_ns: int  # and how long they are together
    minutes: Tally  # requests a minute, those of the cut, last one left out
    wakes_s: Floats  # where spells of activity begin, and at which request they end
    sleeps_s: Floats

    def joined(self, later: "Lane", threshold_s: float, active_s: float = ACTIVE_S) -> "Lane":
        """With a later part, and the gap between them."""
        gap_s = later.first_s - self.last_s
        between, same = gap_s > threshold_s, int(gap_s <= active_s)
        return Lane(
            self.requests + later.requests,
            self.first_s,
            later.last_s,
            max(self.longest_s, gap_s, later.longest_s),
            self.idle + between + later.idle,
            self.idle_ns + between * round(gap_s * NS) + later.idle_ns,
            self.minutes.joined(later.minutes),
            np.concatenate([self.wakes_s, later.wakes_s[same:]]),
            np.concatenate([self.sleeps_s[: len(self.sleeps_s) - same], later.sleeps_s]),
        )


@dataclass(frozen=True)
class Stays:
    """A part of the trace: its models, and how far its requests reach into later parts."""

    lanes: dict[str | None, Lane]
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
        lanes = Lanes.of(timed["model"], timed["arrival_s"].to_numpy() - whole.first_s)
        return Stays(each(lanes, self.threshold_s, whole_windows(whole.span_s, MINUTE_S)), Reach.of(timed))

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
        lanes: dict[str | None, Lane] = {}
        for part in present:
            for name, lane in part.lanes.items():
                lanes[name] = lanes[name].joined(lane, self.threshold_s) if name in lanes else lane
        models = idle_models(lanes, whole.span_s)
        windows, basis = windows_of(whole), "requests in flight"
        levels = [level for _, level in parts if level]
        over_time = (Level.merged(levels), windows) if levels and windows else None
        if over_time is None:
            over_time, basis = active_models(lanes, whole), f"models active in {ACTIVE_S:g} s"
        table = over_time[0].table(over_time[1]) if over_time else CONCURRENCY.to_frame()
        return {
            "models": models,
            "concurrency": table,
            "summary": summary(models, over_time and over_time[0], basis),
        }


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
        time_s = arrival_s.take(groups.order)
        gap_s = np.empty_like(time_s)
        np.subtract(time_s[1:], time_s[:-1], out=gap_s[1:])
        gap_s[groups.starts[:-1]] = np.nan
        names = model.gather(groups.order[groups.starts[:-1]]).cast(pl.String).to_list()
        return cls(names, groups, arrival_s, time_s, gap_s)


def each(lanes: Lanes, threshold_s: float, minutes: int, active_s: float = ACTIVE_S) -> dict[str | None, Lane]:
    """The lanes one by one."""
    starts, requests = lanes.groups.starts, len(lanes.time_s)
    idle = np.flatnonzero(lanes.gap_s > threshold_s)
    wakes = np.flatnonzero((lanes.gap_s > active_s) | lanes.groups.first)
    sleeps = np.append(wakes[1:], requests) - 1  # a spell's last request is the one before the next spell's first
    idle_ns = np.append(0, np.cumsum(np.rint(lanes.gap_s[idle] * NS).astype(np.int64)))
    of_idle, of_spells = (np.searchsorted(at, starts) for at in (idle, wakes))
    longest_s = np.fmax.reduceat(lanes.gap_s, starts[:-1])  # NaN where there is one request
    longest_s[np.isnan(longest_s)] = -np.inf
    found = {}
    for k, (name, in_minutes) in enumerate(zip(lanes.names, by_minute(lanes, minutes), strict=True)):
        (a, b), (c, d), (e, f) = (at[k : k + 2] for at in (starts, of_idle, of_spells))
        found[name] = Lane(
            int(b - a),
            float(lanes.time_s[a]),
            float(lanes.time_s[b - 1]),
            float(longest_s[k]),
            int(d - c),
            int(idle_ns[d] - idle_ns[c]),
            Tally.of(*in_minutes),
            lanes.time_s[wakes[e:f]],
            lanes.time_s[sleeps[e:f]],
        )
    return found


def by_minute(lanes: Lanes, minutes: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Each lane's minutes and its requests in them: lane by lane where these are long, else all at once."""
    starts, time_s = lanes.groups.starts, lanes.time_s
    if len(time_s) > LONG * len(lanes.names):
        for begin, end in pairwise(starts):
            yield occupied(time_s[begin:end], MINUTE_S, minutes)
        return
    minute = window_of(time_s, MINUTE_S)
    first = lanes.groups.first.copy()
    first[1:] |= minute[1:] != minute[:-1]
    begins = np.flatnonzero(first)
    counts, whole = np.diff(begins, append=len(minute)), minute[begins] < minutes
    begins, counts = begins[whole], counts[whole]
    for begin, end in pairwise(np.searchsorted(begins, starts)):
        yield minute[begins[begin:end]], counts[begin:end]


def idle_models(lanes: dict[str | None, Lane], span_s: float) -> pl.DataFrame:
    """Gaps above the threshold between a model's consecutive requests; busiest model first."""
    idle_s = np.array([lane.idle_ns for lane in lanes.values()]) / NS
    intervals = np.array([lane.idle for lane in lanes.values()])
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


def active_models(lanes: dict[str | None, Lane], whole: Whole) -> tuple[Level, Windows] | None:
    """Models that received a request within the last ACTIVE_S; null with fewer than two models."""
    if len(lanes) < 2:
        return None
    wakes_s = np.concatenate([lane.wakes_s for lane in lanes.values()])
    sleeps_s = np.concatenate([lane.sleeps_s for lane in lanes.values()])
    end_s = np.sort(np.minimum(sleeps_s + ACTIVE_S, whole.span_s))
    windows = Windows.upto(whole.span_s, whole.info.clock_step_s)
    return Level.of(np.sort(wakes_s), end_s, windows), windows


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
