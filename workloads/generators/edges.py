"""One moment that many processes are asked up to."""

from collections.abc import Iterator


class Edge:
    """`upto()` yields `end_s` as it is when asked."""

    end_s = 0.0

    def upto(self) -> Iterator[float]:
        while True:
            yield self.end_s
