"""Who is let in when only so many may be under way."""

from typing import Protocol

from replay.http.exchange import Exchange


class Line(Protocol):
    """Those who wait, and who of them is next."""

    def __len__(self) -> int: ...

    def put(self, exchange: Exchange) -> None: ...

    def take(self, now_s: float) -> Exchange: ...

    def ended(self, exchange: Exchange, output_tokens: int | None) -> None: ...

    def tick(self, now_s: float) -> None: ...

    def clear(self) -> None: ...


class Admission:
    """Lets `most` exchanges be under way at once; the others wait in line."""

    def __init__(self, most: int | None, line: Line):
        self._most, self.line = most, line
        self._inside = 0

    def admit(self, exchange: Exchange) -> bool:
        """Whether `exchange` may go at once; else it waits."""
        if self._most is None or self._inside < self._most:
            self._inside += 1
            exchange.admitted = True
            return True
        self.line.put(exchange)
        return False

    def leave(self, now_s: float) -> Exchange | None:
        """Who may go now that somebody has ended."""
        if not len(self.line):
            self._inside -= 1
            return None
        following = self.line.take(now_s)
        following.admitted = True
        return following
