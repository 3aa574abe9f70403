"""What a scheduler says of who goes first, before a byte is sent."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.http.plan import Waits
from replay.simulation.policies import Policy, lanes_of, observes, orders
from replay.simulation.state import NEVER, PS
from toolkit.protocols import Scheduler


@dataclass(frozen=True)
class Orders:
    """Columns of the plan (replay.http.rows), an entry a request, and how lanes take turns."""

    columns: dict[str, NDArray[Any]]
    lanes: dict[str, Any]


def asked(scheduler: Scheduler) -> bool:
    """Whether the scheduler wants to be asked while it goes on."""
    return observes(scheduler) or orders(scheduler)


def turns(scheduler: Scheduler) -> bool:
    """Whether who is next depends on who went before: no priority that is sent along can say that."""
    return lanes_of(scheduler) is not None or orders(scheduler)


def orders_of(scheduler: Scheduler, trace: pl.DataFrame, waiting: Waits, send_priority: bool) -> Orders:
    """Ranks of requests that have not begun, with the start of their curve; and their order as whole numbers."""
    think = np.where(waiting.parent >= 0, np.rint(waiting.think_s * PS), -1).astype(np.int64)
    policy = Policy.of(scheduler, trace, think)
    columns: dict[str, Any] = {"rank": policy.rank + policy.offsets[policy.curve, 0], "rise": policy.rise}
    if policy.lanes > 1:
        columns["lane"] = policy.lane
    if policy.turns is not None:
        after = policy.turns.after
        columns |= {"after_s": np.where(after == NEVER, 1e18, after / PS), "shift": policy.turns.shift}
    if send_priority:
        columns["priority"] = _dense(columns["rank"], policy.rise, trace)
    rule = lanes_of(scheduler)
    weights = {"prompt_weight": rule.prompt_weight, "output_weight": rule.output_weight} if rule else {}
    return Orders(columns, {"count": policy.lanes, "cycle": policy.cycle.tolist(), **weights})


def _dense(rank: Any, rise: Any, trace: pl.DataFrame) -> Any:
    """Ranks as 0, 1, 2 …; a waiting turn's by its arrival in the trace, for the replay's is not known yet."""
    arrival = trace["arrival_s"].cast(pl.Float64).fill_null(0.0).to_numpy()
    return np.unique(rank + rise * arrival, return_inverse=True)[1].astype(np.int64)
