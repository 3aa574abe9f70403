"""Those who wait to be let in, in the order their scheduler's data says: ranks, lanes and patience.

What ranks say of requests under way (curves, displacement) has no place here: the engine has them then.
"""

import heapq
from dataclasses import dataclass, field

from replay.http.exchange import Exchange


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
        self._rule = rule or LaneRule()
        self._lanes: list[list[tuple[float, int, Exchange]]] = [[] for _ in range(self._rule.count)]
        self._served = [0.0] * self._rule.count
        self._turn = self._last = 0
        self._patience: list[tuple[float, int, Exchange]] = []  # when a rank changes
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, exchange: Exchange) -> None:
        self._count += 1
        if self._rule.count > 1 and not self._lanes[exchange.row.lane]:
            self._lift(exchange.row.lane)
        self._push(exchange, rank(exchange))
        if exchange.row.after_s is not None:
            heapq.heappush(self._patience, (exchange.arrival_s + exchange.row.after_s, exchange.row.id, exchange))

    def take(self, now_s: float) -> Exchange:
        """Who is next; somebody must be waiting."""
        self._lose_patience(now_s)
        lane = self._next_lane()
        _, _, exchange = heapq.heappop(self._lanes[lane])
        self._count -= 1
        self._last = lane
        self._served[lane] += self._rule.prompt_weight * (exchange.row.prompt or 0)
        return exchange

    def ended(self, exchange: Exchange, output_tokens: int | None) -> None:
        """Somebody who was let in has ended."""
        self._served[exchange.row.lane] += self._rule.output_weight * (output_tokens or 0)

    def tick(self, now_s: float) -> None:
        """Called a few times a second."""

    def clear(self) -> None:
        self.__init__(self._rule)  # type: ignore[misc]

    def _push(self, exchange: Exchange, by: float) -> None:
        heapq.heappush(self._lanes[exchange.row.lane], (by, exchange.row.id, exchange))

    def _next_lane(self) -> int:
        if self._rule.count == 1:
            return 0
        if not self._rule.cycle:
            return min((n for n, lane in enumerate(self._lanes) if lane), key=lambda n: (self._served[n], n))
        while not self._lanes[self._rule.cycle[self._turn]]:
            self._turn = (self._turn + 1) % len(self._rule.cycle)
        lane = self._rule.cycle[self._turn]
        self._turn = (self._turn + 1) % len(self._rule.cycle)
        return lane

    def _lift(self, lane: int) -> None:
        """A lane that nobody waited in has no claim from before: level it with the least served of the others."""
        busy = [self._served[n] for n, waiting in enumerate(self._lanes) if waiting] or [self._served[self._last]]
        self._served[lane] = max(self._served[lane], min(busy))

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
