"""What a scheduler says of who goes first, before a byte is sent."""

from typing import Any

import numpy as np
import polars as pl

from replay.http.plan import Orders, Waits
from replay.simulation.policies import Policy
from toolkit.protocols import Scheduler


def orders_of(scheduler: Scheduler, trace: pl.DataFrame, waiting: Waits, send_priority: bool) -> Orders:
    """Ranks of requests that have not begun, with the start of their curve; and their order as whole numbers."""
    think = np.where(waiting.parent >= 0, np.rint(waiting.think_s * 1e12), -1).astype(np.int64)
    policy = Policy.of(scheduler, trace, think)
    rank = policy.rank + policy.offsets[policy.curve, 0]
    priority = _dense(rank, policy.rise, trace) if send_priority else None
    return Orders(rank, policy.rise, priority)


def _dense(rank: Any, rise: Any, trace: pl.DataFrame) -> Any:
    """Ranks as 0, 1, 2 …; a waiting turn's by its arrival in the trace, for the replay's is not known yet."""
    arrival = trace["arrival_s"].cast(pl.Float64).fill_null(0.0).to_numpy()
    return np.unique(rank + rise * arrival, return_inverse=True)[1].astype(np.int64)
