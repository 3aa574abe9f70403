"""What a scheduler says about the requests of a trace, as data for the compiled core."""

import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, get_args, get_type_hints

import numpy as np
import polars as pl

from replay.simulation.horizon import LONGEST_S
from replay.simulation.state import F64, I32, I64, NEVER, PS, Records
from toolkit.errors import SettingFailure, nearest
from toolkit.protocols import Curve, Lanes, Patience, Preemption, Scheduler, ServiceCosts

NO_LIMIT = np.iinfo(np.int32).max
SLOPE_S = 2.0**20  # 12 days: a slope taken over this is exact enough for ranks far from 0


class Turns(NamedTuple):
    """When a waiting request's rank changes by itself, and by what; one entry a request."""

    after: I64  # picoseconds; NEVER
    shift: F64


@dataclass(frozen=True)
class Policy:
    """A scheduler as arrays, one entry a request where nothing else is said."""

    rank: F64  # of a waiting turn: if it arrived at 0
    rise: F64  # a waiting turn's rank rises by this with a second of later arrival; 0 for the others
    hold_at: I32  # output tokens from which the request keeps its place
    curve: I32  # its row of `offsets`
    lane: I32
    turns: Turns | None
    boundaries: I32  # [level]
    offsets: F64  # [curve, level]
    lanes: int
    cycle: I64  # lanes
    settings: dict[str, float]  # by their names in SETTINGS

    @classmethod
    def of(cls, scheduler: Scheduler, trace: pl.DataFrame, think: I64) -> "Policy":
        """Ask `scheduler` once for the whole trace; SettingFailure for an answer that is none."""
        timed = trace.with_columns(pl.col("arrival_s").fill_null(0.0))
        rank, rise = _ranks(scheduler, timed, think)
        curve, preemption, lanes = curve_of(scheduler), preemption_of(scheduler), lanes_of(scheduler)
        offsets = offsets_of(curve)
        rows = _integers(scheduler, "curve_row", timed, len(offsets))
        lane = _integers(scheduler, "lane", timed, NO_LIMIT) if lanes else np.zeros(len(trace), np.int32)
        count = 1 + max(int(lane.max(initial=0)), *(lanes.cycle if lanes else ()), 0)
        patience = _patience(scheduler, timed)
        policy = cls(
            rank=rank,
            rise=rise,
            hold_at=_hold_at(scheduler, trace, preemption),
            curve=rows,
            lane=lane,
            turns=_turns(patience, len(trace)),
            boundaries=np.array(curve.boundaries, np.int32),
            offsets=offsets,
            lanes=count,
            cycle=np.array(lanes.cycle if lanes else (), np.int64),
            settings=_settings(scheduler, curve, preemption, lanes, patience) | {"lanes": count},
        )
        policy.check(type(scheduler).__name__)
        return policy

    def check(self, name: str) -> None:
        """Raise SettingFailure for what does not go together."""
        if self.lanes > 1 and (self.settings["displace"] or self.settings["ordered"]):
            raise SettingFailure("has lanes, and displaces or orders too", where=name, hint="leave one of them out")
        if self.settings["window"] < 1 or self.settings["hysteresis"] < 0:
            said = f"window={self.settings['window']}, hysteresis={self.settings['hysteresis']:g}"
            raise SettingFailure(said, where=name, hint="a window is at least 1, a hysteresis at least 0")
        unserved = np.setdiff1d(self.lane, self.cycle) if len(self.cycle) else self.cycle
        if len(unserved):
            what = f"puts requests into lane {unserved[0]}, which has no turn in its cycle {self.cycle.tolist()}"
            raise SettingFailure(what, where=name, hint="name every lane in the cycle; else its requests never run")
        if self.settings["latest"] and self.settings["displace"]:
            raise SettingFailure("displaces by rank, but takes the latest as victim", where=name)

    def write(self, settings: Records) -> None:
        """Put the scheduler's part into SETTINGS."""
        for name, value in self.settings.items():
            settings[name] = value


def tell(scheduler: Any, costs: ServiceCosts) -> None:
    """Tell a scheduler that wants to know what service takes."""
    if callable(getattr(scheduler, "serve_on", None)):
        scheduler.serve_on(costs)


def observes(scheduler: Any) -> bool:
    """Whether the scheduler learns from what has ended."""
    return callable(getattr(scheduler, "observe", None))


def orders(scheduler: Any) -> bool:
    """Whether the scheduler orders a queue as a whole."""
    return callable(getattr(scheduler, "order", None))


def curve_of(scheduler: Scheduler) -> Curve:
    """The scheduler's curve; a rank that never moves where it names none."""
    return cast(Curve, _said(scheduler, "curve", Curve()))


def preemption_of(scheduler: Scheduler) -> Preemption:
    """The scheduler's preemption rule; memory pressure only where it names none."""
    preemption = cast(Preemption, _said(scheduler, "preemption", Preemption()))
    for name in ("when", "victim"):
        known, given = get_args(get_type_hints(Preemption)[name]), getattr(preemption, name)
        if given not in known:
            where = f"{type(scheduler).__name__}.preemption"
            raise SettingFailure(f"{name} is '{given}'", where=where, hint=nearest(str(given), known))
    return preemption


def lanes_of(scheduler: Scheduler) -> Lanes | None:
    """The scheduler's lanes, or None: one queue."""
    return cast(Lanes | None, _said(scheduler, "lanes", None, Lanes))


def _said(scheduler: Any, name: str, otherwise: Any, kind: type | None = None) -> Any:
    """A member of the scheduler, or `otherwise` where it has none; SettingFailure where it is of another kind."""
    # Not getattr's default: that would hide a mistake inside a property.
    if inspect.getattr_static(scheduler, name, None) is None:
        return otherwise
    return _of_kind(getattr(scheduler, name), kind or type(otherwise), f"{type(scheduler).__name__}.{name}")


def _of_kind(said: Any, kind: type, where: str) -> Any:
    if not isinstance(said, kind):
        hint = f"toolkit.protocols.{kind.__name__} says what it can hold"
        raise SettingFailure(f"is of type {type(said).__name__}, not a {kind.__name__}", where=where, hint=hint)
    return said


def offsets_of(curve: Curve) -> F64:
    """The offsets as [curve, level]; SettingFailure where their number does not fit the boundaries."""
    offsets = np.atleast_2d(np.array(curve.offsets, np.float64))
    boundaries = np.array(curve.boundaries, np.int64)
    if offsets.ndim != 2 or offsets.shape[1] != len(boundaries) + 1:
        raise SettingFailure(f"{len(boundaries)} boundaries need one offset more, not {offsets.shape}", where="curve")
    if (np.diff(boundaries) <= 0).any() or (len(boundaries) and not 1 <= boundaries[0] <= boundaries[-1] < NO_LIMIT):
        raise SettingFailure(f"boundaries must be whole numbers that rise, from 1 to below {NO_LIMIT}", where="curve")
    return offsets


def checked_ranks(scheduler: Scheduler, trace: pl.DataFrame, now_s: float) -> F64:
    """What `rank` says of `trace`, one number a request; SettingFailure when it is anything else."""
    name, said = type(scheduler).__name__, scheduler.rank(trace, now_s)
    try:
        rank = np.array(said, np.float64)
    except (TypeError, ValueError) as error:
        raise SettingFailure("rank() gave no numbers", where=name, hint="one float a request") from error
    if rank.shape != (len(trace),):
        raise SettingFailure(f"rank() gave shape {rank.shape} for {len(trace)} requests", where=name)
    if np.isnan(rank).any():
        at = int(np.flatnonzero(np.isnan(rank))[0])
        raise SettingFailure("rank() is not a number", where=f"{name}, request {trace['request_id'][at]}")
    return rank


def _ranks(scheduler: Scheduler, trace: pl.DataFrame, think: I64) -> tuple[F64, F64]:
    """(Ranks, what a second of later arrival adds to a waiting turn's).

    When a turn that waits for its parent arrives is known only in the replay, so its rank must be linear in its
    arrival: that is found by asking for arrivals at 0, FAR and 2·FAR. Raises SettingFailure where it is not so.
    """
    rank = checked_ranks(scheduler, trace, 0.0)
    rise = np.zeros(len(trace))
    waits = think >= 0
    if waits.any():
        turns = trace.filter(pl.Series(waits))
        at = [checked_ranks(scheduler, turns.with_columns(arrival_s=pl.lit(s * SLOPE_S)), 0.0) for s in range(3)]
        rise[waits] = (at[1] - at[0]) / SLOPE_S
        rank[waits] = at[0]
        if not np.allclose(at[2] - at[1], at[1] - at[0], rtol=1e-6):
            raise SettingFailure(
                "ranks a session's turns by more than a linear function of their arrival",
                where=type(scheduler).__name__,
                hint="replay with --sessions open",
            )
    return rank, rise


def _integers(scheduler: Any, name: str, trace: pl.DataFrame, below: int) -> I32:
    """What an optional method says of each request: a number from 0; 0 where the scheduler has none."""
    method = getattr(scheduler, name, None)
    if method is None:
        return np.zeros(len(trace), np.int32)
    numbers = np.array(method(trace))
    where = f"{type(scheduler).__name__}.{name}"
    if numbers.shape != (len(trace),) or not np.issubdtype(numbers.dtype, np.integer):
        raise SettingFailure(f"gave no whole number for each of {len(trace)} requests", where=where)
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= below:
        raise SettingFailure(f"gave {numbers.min()} to {numbers.max()}, of 0 to {below - 1}", where=where)
    return numbers.astype(np.int32)


def _patience(scheduler: Any, trace: pl.DataFrame) -> Patience | None:
    method = getattr(scheduler, "patience", None)
    if method is None:
        return None
    return cast(Patience, _of_kind(method(trace), Patience, f"{type(scheduler).__name__}.patience"))


def _turns(patience: Patience | None, requests: int) -> Turns | None:
    if patience is None:
        return None
    after_s = np.broadcast_to(np.array(patience.after_s, np.float64), (requests,))
    ends = after_s <= LONGEST_S
    after = np.where(ends, np.rint(np.where(ends, after_s, 0.0) * PS), float(NEVER))
    whole = np.full(requests, NEVER, np.int64)
    whole[ends] = np.maximum(after[ends], 0).astype(np.int64)
    return Turns(whole, np.broadcast_to(np.array(patience.shift, np.float64), (requests,)).copy())


def _settings(
    scheduler: Any, curve: Curve, preemption: Preemption, lanes: Lanes | None, patience: Patience | None
) -> dict[str, float]:
    return {
        "displace": preemption.when == "rank",
        "min_run": preemption.min_run,
        "latest": preemption.victim == "latest",
        "hysteresis": preemption.hysteresis,
        "context_cost": preemption.context_cost,
        "slope": curve.slope,
        "victim_slope": curve.slope - preemption.context_cost,
        "prompt_work": curve.prompt_work,
        "ordered": orders(scheduler),
        "window": getattr(scheduler, "window", NO_LIMIT),
        "prompt_weight": lanes.prompt_weight if lanes else 0.0,
        "output_weight": lanes.output_weight if lanes else 0.0,
        "since_place": patience is not None and patience.since == "place",
        "hold_tokens": patience.hold_tokens if patience else 0,
    }


def predictions(scheduler: Any, request_ids: I64) -> F64:
    """The output tokens that a scheduler with `predicted` expected of requests; SettingFailure for another number."""
    expected = np.asarray(scheduler.predicted(request_ids), np.float64)
    if expected.shape != request_ids.shape:
        what = f"predicted() gave shape {expected.shape} for {len(request_ids)} requests"
        raise SettingFailure(what, where=type(scheduler).__name__)
    return expected


def _hold_at(scheduler: Any, trace: pl.DataFrame, preemption: Preemption) -> I32:
    if preemption.hold_share >= 1.0:
        return np.full(len(trace), NO_LIMIT, np.int32)
    output = trace["output_tokens"].fill_null(0).to_numpy()
    if callable(getattr(scheduler, "predicted", None)):
        output = np.nan_to_num(predictions(scheduler, trace["request_id"].to_numpy()))
    held: I32 = np.clip(np.ceil(output * preemption.hold_share), 1, NO_LIMIT).astype(np.int32)
    return held
