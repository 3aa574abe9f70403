"""Those who wait, in the order a scheduler gives when it is asked: it observes what ended, or orders the queue."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.http.exchange import Exchange
from replay.simulation.policies import checked_ranks, curve_of, observes, offsets_of, orders
from toolkit.errors import SettingFailure
from toolkit.protocols import Scheduler

Columns = dict[str, NDArray[Any]]


class Queue:
    """The waiting requests as a scheduler sees them (protocols.Waiting)."""

    def __init__(self, columns: Callable[[str], NDArray[Any]], ids: NDArray[np.int64], arrival_s: NDArray[np.float64]):
        self._columns, self._ids, self._arrival_s = columns, ids, arrival_s

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name == "arrival_s":
            return self._arrival_s
        return np.zeros(len(self)) if name == "served" else self._columns(name)[self._ids]


class Asked:
    """Asks the scheduler for ranks when somebody is to be let in, and again after it has learnt something."""

    def __init__(self, scheduler: Scheduler, trace: pl.DataFrame, origin: Callable[[], float]):
        self._scheduler: Any = scheduler
        self._trace, self._origin = trace, origin
        self._made: Columns = {}
        self._waiting: dict[int, Exchange] = {}
        self._ranks: dict[int, float] = {}
        self._order: list[int] | None = None  # the latest answer, next at its end; null once the queue has changed
        self._ended: list[dict[str, Any]] = []
        self._observe_s = float("inf") if not observes(scheduler) else 0.0
        self._meet()

    def _meet(self) -> None:
        """Show the scheduler all of the trace, from which it may learn; what it has compiled is compiled now."""
        checked_ranks(self._scheduler, self._trace.with_columns(pl.col("arrival_s").fill_null(0.0)), 0.0)
        if orders(self._scheduler) and len(self._trace):
            self._scheduler.order(Queue(self._column, np.zeros(1, np.int64), np.zeros(1)), 0.0)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, exchange: Exchange) -> None:
        self._waiting[exchange.row.id] = exchange
        self._order = None

    def take(self, now_s: float) -> Exchange:
        if self._order is None:
            self._order = self._ordered(now_s - self._origin())
        chosen = self._order.pop()
        self._ranks.pop(chosen, None)
        return self._waiting.pop(chosen)

    def ended(self, exchange: Exchange, output_tokens: int | None) -> None:
        ok = output_tokens is not None and exchange.failure is None
        times = {
            "start_s": exchange.sent_s,
            "first_token_s": exchange.times[0] if exchange.times else None,
            "finish_s": exchange.times[-1] if exchange.times else None,
        }
        shown = {name: at - self._origin() if ok and at is not None else float("nan") for name, at in times.items()}
        known = {"request_id": exchange.row.id, "arrival_s": exchange.arrival_s - self._origin()}
        tokens = {"prompt_tokens": exchange.row.prompt or 0, "output_tokens": output_tokens or 0, "preemptions": 0}
        self._ended.append(known | shown | tokens | {"status": "ok" if ok else "rejected"})

    def tick(self, now_s: float) -> None:
        """Let the scheduler observe what ended, when its time has come."""
        at_s = now_s - self._origin()
        if at_s < self._observe_s or self._observe_s == float("inf"):
            return
        every_s = float(self._scheduler.observe_every_s)
        if self._observe_s and self._ended:
            ended, self._ended = pl.DataFrame(self._ended), []
            if self._scheduler.observe(ended, at_s) is not False:
                self._ranks.clear()
                self._order = None
        self._observe_s = at_s + every_s if every_s > 0 else float("inf")

    def clear(self) -> None:
        self._waiting.clear()

    def _ordered(self, now_s: float) -> list[int]:
        """The waiting by rank, and as the scheduler orders them; who is next last."""
        self._rank_the_new(now_s)
        ids = sorted(self._waiting, key=lambda n: (self._ranks[n], n))
        if orders(self._scheduler):
            window = min(getattr(self._scheduler, "window", len(ids)), len(ids))
            first = np.array(ids[:window], np.int64)
            arrival = np.array([self._waiting[n].arrival_s - self._origin() for n in first])
            answer = np.asarray(self._scheduler.order(Queue(self._column, first, arrival), now_s))
            if sorted(answer.tolist()) != list(range(window)):
                raise SettingFailure("order() gave no permutation", where=type(self._scheduler).__name__)
            ids[:window] = first[answer].tolist()
        return ids[::-1]

    def _rank_the_new(self, now_s: float) -> None:
        new = sorted(n for n in self._waiting if n not in self._ranks)
        if not new:
            return
        arrival = pl.Series([self._waiting[n].arrival_s - self._origin() for n in new], dtype=pl.Float64)
        frame = self._trace[new].with_columns(arrival_s=arrival)
        offsets, row = offsets_of(curve_of(self._scheduler))[:, 0], getattr(self._scheduler, "curve_row", None)
        start = offsets[np.asarray(row(frame))] if row is not None else offsets[0]
        ranks = checked_ranks(self._scheduler, frame, now_s) + start
        self._ranks.update(zip(new, ranks.tolist(), strict=True))

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._made:
            column = self._trace[name]
            if column.dtype == pl.String:
                column = column.rank("dense").cast(pl.Int64).fill_null(0) - 1
            self._made[name] = column.to_numpy()
        return self._made[name]
