"""Makes a plan's requests before they are due: sending one is then nothing but writing its bytes."""

from collections.abc import Iterator, Sequence

from replay.http.bodies import Bodies
from replay.http.exchange import Exchange
from replay.http.rows import Row

AHEAD_S = 0.25  # requests are made this long before they are due …
AHEAD_ROWS, AHEAD_BYTES = 64, 1 << 24  # … at least so many of them, and never more bytes than this


class Ahead:
    """The plan, and how much of it is made but not sent. `at_once` is how many may be asked for at the same moment."""

    def __init__(self, rows: Iterator[Row], bodies: Sequence[Bodies], at_once: int | None):
        self._rows, self._bodies = rows, bodies
        self._timed, self._least = at_once is None, max(AHEAD_ROWS, at_once or 0)
        self.exhausted = False
        self.waiting = self._bytes = 0
        self._until_s = 0.0

    def wants(self, now_s: float) -> bool:
        """Whether more should be made now."""
        if self.exhausted or self._bytes > AHEAD_BYTES:
            return False
        return self.waiting < self._least or (self._timed and self._until_s < now_s + AHEAD_S)

    def next_row(self) -> Row | None:
        """The plan's next request; null once there is none."""
        row = next(self._rows, None)
        self.exhausted = self.exhausted or row is None
        return row

    def make(self, row: Row, due_s: float) -> Exchange:
        """A request's bytes, for `due_s` on the clock."""
        exchange = Exchange(row, self._bodies[row.route].request(row), due_s)
        self.waiting += 1
        self._bytes += len(exchange.data)
        self._until_s = max(self._until_s, due_s)
        return exchange

    def taken(self, exchange: Exchange) -> None:
        """What was made is sent, or waits elsewhere."""
        self.waiting -= 1
        self._bytes -= len(exchange.data)

    def forget(self) -> None:
        """What was made will not be sent."""
        self.waiting = self._bytes = 0
