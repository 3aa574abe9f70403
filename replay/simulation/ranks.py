"""Where a scheduler puts each request of a trace, as data for the compiled core."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from replay.simulation.state import F64, I32, I64
from toolkit.errors import SettingFailure
from toolkit.protocols import Preemption, Scheduler

NO_LIMIT = np.iinfo(np.int32).max


class Ranks(NamedTuple):
    """One entry a request."""

    rank: F64  # of a waiting turn: if it arrived at 0
    rise: F64  # a waiting turn's rank rises by this with a second of later arrival; 0 for the others
    hold_at: I32  # output tokens from which the request keeps its place


def observes(scheduler: Any) -> bool:
    """Whether the scheduler learns from what has ended."""
    return callable(getattr(scheduler, "observe", None))


def orders(scheduler: Any) -> bool:
    """Whether the scheduler orders a queue as a whole."""
    return callable(getattr(scheduler, "order", None))


def ranks_of(scheduler: Scheduler, trace: pl.DataFrame, think: I64) -> Ranks:
    """Ask `scheduler` once for the whole trace.

    When a turn that waits for its parent arrives is known only in the replay, so its rank must be linear in its
    arrival: that is found by asking for arrivals at 0, 1 and 2 s. Raises SettingFailure where it is not so.
    """
    rank = checked_ranks(scheduler, trace.with_columns(pl.col("arrival_s").fill_null(0.0)), 0.0)
    rise = np.zeros(len(trace))
    waits = think >= 0
    if waits.any():
        turns = trace.filter(pl.Series(waits))
        at = [checked_ranks(scheduler, turns.with_columns(arrival_s=pl.lit(float(s))), 0.0) for s in range(3)]
        rise[waits] = at[1] - at[0]
        rank[waits] = at[0]
        if not np.allclose(at[2] - at[1], at[1] - at[0], rtol=1e-6):
            raise SettingFailure(
                "ranks a session's turns by more than a linear function of their arrival",
                where=type(scheduler).__name__,
                hint="replay with --sessions open",
            )
    return Ranks(rank, rise, _hold_at(trace, getattr(scheduler, "preemption", Preemption())))


def checked_ranks(scheduler: Scheduler, trace: pl.DataFrame, now_s: float) -> F64:
    """What `rank` says of `trace`, one number a request; SettingFailure when it is anything else."""
    rank = np.array(scheduler.rank(trace, now_s), np.float64)
    name = type(scheduler).__name__
    if rank.shape != (len(trace),):
        raise SettingFailure(f"rank() gave shape {rank.shape} for {len(trace)} requests", where=name)
    if np.isnan(rank).any():
        at = int(np.flatnonzero(np.isnan(rank))[0])
        raise SettingFailure("rank() is not a number", where=f"{name}, request {trace['request_id'][at]}")
    return rank


def _hold_at(trace: pl.DataFrame, preemption: Preemption) -> I32:
    if preemption.hold_share >= 1.0:
        return np.full(len(trace), NO_LIMIT, np.int32)
    output = trace["output_tokens"].fill_null(0).to_numpy()
    return np.maximum(1, np.ceil(output * preemption.hold_share)).astype(np.int32)
