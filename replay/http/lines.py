"""Those who wait to be let in, in the order their scheduler's data says: ranks, lanes and patience.

What ranks say of requests under way (curves, displacement) has no place here: the engine has them then.
"""

import heapq
from dataclasses import dataclass, field

from replay.http.exchange import Exchange
from replay.planning.turns import Turns


@dataclass(frozen=True)
class LaneRule:
    """How lanes take turns: in a cycle, or, without one, who has had the least service first (toolkit.protocols)."""

    count: int = 1
    cycle: list[int] = field(default_factory=list)
    prompt_weight: float = 1.0
    output_weight: float = 2.0


class Ranked:
    """Lanes of exchanges by rank, ties by request_id."""

    def __init__(self, rule: LaneRule | None = None):
        self._rule = rule = rule or LaneRule()
        self._lanes: list[list[tuple[float, int, Exchange]]] = [[] for _ in range(rule.count)]
        self._turns = Turns(rule.count, rule.cycle, rule.prompt_weight, rule.output_weight)
        self._patience: list[tuple[float, int, Exchange]] = []  # when a rank changes
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, exchange: Exchange) -> None:
        self._count += 1
        self._turns.join(exchange.row.lane, self._lanes)
        self._push(exchange, rank(exchange))
        if exchange.row.after_s is not None:
            heapq.heappush(self._patience, (exchange.arrival_s + exchange.row.after_s, exchange.row.id, exchange))

    def take(self, now_s: float) -> Exchange:
        """Who is next; somebody must be waiting."""
        self._lose_patience(now_s)
        lane = self._turns.next(self._lanes)
        exchange = self._lanes[lane][0][2]
        self._turns.take(lane, exchange.row.prompt or 0, self._lanes)
        heapq.heappop(self._lanes[lane])
        self._count -= 1
        return exchange

    def ended(self, exchange: Exchange, output_tokens: int | None) -> None:
        """Somebody who was let in has ended."""
        self._turns.served(exchange.row.lane, output_tokens or 0)

    def tick(self, now_s: float) -> None:
        """Called a few times a second."""

    def clear(self) -> None:
        self.__init__(self._rule)  # type: ignore[misc]

    def _push(self, exchange: Exchange, by: float) -> None:
        heapq.heappush(self._lanes[exchange.row.lane], (by, exchange.row.id, exchange))

    def _lose_patience(self, now_s: float) -> None:
        """Move those who have waited long enough for their rank to change."""
        while self._patience and self._patience[0][0] <= now_s:
            _, _, exchange = heapq.heappop(self._patience)
            lane = self._lanes[exchange.row.lane]
            held = next((entry for entry in lane if entry[2] is exchange), None)
            if held is not None:
                lane.remove(held)
                heapq.heapify(lane)
                self._push(exchange, held[0] + exchange.row.shift)


def rank(exchange: Exchange) -> float:
    """Where a request stands; a turn's rank rises with its arrival, which only the replay knows."""
    row = exchange.row
    return row.rank + row.rise * (row.arrival_s or 0.0) if row.rise else row.rank
