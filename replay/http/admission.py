"""Who is let in when only so many may be under way: those that wait, by the scheduler's rank."""

import heapq

from replay.http.exchange import Exchange


class Admission:
    """Lets `most` exchanges be under way at once; the others wait by rank, ties by request_id."""

    def __init__(self, most: int | None):
        self._most = most
        self._waiting: list[tuple[float, int, Exchange]] = []
        self.inside = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, exchange: Exchange) -> bool:
        """Whether `exchange` may go at once; else it waits."""
        if self._most is None or self.inside < self._most:
            self.inside += 1
            exchange.admitted = True
            return True
        heapq.heappush(self._waiting, (rank(exchange), exchange.row.id, exchange))
        return False

    def leave(self) -> Exchange | None:
        """Who may go now that somebody has ended."""
        if self._waiting and self._most is not None and self.inside <= self._most:
            following = heapq.heappop(self._waiting)[2]
            following.admitted = True
            return following
        self.inside -= 1
        return None

    def empty(self) -> None:
        """Send everybody who waits away."""
        self._waiting.clear()


def rank(exchange: Exchange) -> float:
    """Where a request stands; a turn's rank rises with its arrival, which only the replay knows."""
    row = exchange.row
    return row.rank + row.rise * (row.arrival_s or 0.0) if row.rise else row.rank
