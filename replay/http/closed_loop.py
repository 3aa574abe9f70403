"""So many requests under way at all times: the next one arrives the moment another has ended."""

from collections import deque

from replay.http.exchange import Exchange


class ClosedLoop:
    """Holds what was made of the plan, in its order, until there is a place for it."""

    def __init__(self, most: int):
        self.most = self.waits_to_begin = most
        self._free = 0  # places; none before it begins
        self._ready: deque[Exchange] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    def begin(self) -> None:
        self._free, self.waits_to_begin = self.most, 0

    def put(self, exchange: Exchange) -> None:
        self._ready.append(exchange)

    def leave(self) -> None:
        """Somebody has ended."""
        self._free += 1

    def take(self, now_s: float) -> Exchange | None:
        """Who arrives now; null while there is no place, or nobody is ready."""
        if not self._free or not self._ready:
            return None
        self._free -= 1
        exchange = self._ready.popleft()
        exchange.arrival_s = exchange.due_s = now_s
        exchange.admitted = True
        return exchange

    def clear(self) -> list[Exchange]:
        """Who had not arrived."""
        left = list(self._ready)
        self._ready.clear()
        return left
