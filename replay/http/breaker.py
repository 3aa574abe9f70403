"""Stops sending to a server that is gone, and tries it now and then."""

from dataclasses import dataclass


@dataclass
class Breaker:
    """Opens after `failures` in a row without an answer; then lets one request through every `every_s`, as a trial."""

    failures: int = 20
    every_s: float = 1.0
    in_a_row: int = 0
    opened: int = 0
    _next_s: float = 0.0

    @property
    def open(self) -> bool:
        return self.in_a_row >= self.failures

    def lets(self, now_s: float) -> bool:
        """Whether a request may be sent now."""
        allowed = self.would_let(now_s)
        if self.open and allowed:
            self._next_s = now_s + self.every_s
        return allowed

    def would_let(self, now_s: float) -> bool:
        """The same, without counting on it."""
        return not self.open or now_s >= self._next_s

    def heard(self, answered: bool, now_s: float) -> bool:
        """Note how an exchange ended; whether the breaker opened or closed by it."""
        was = self.open
        self.in_a_row = 0 if answered else self.in_a_row + 1
        if self.open and not was:
            self.opened += 1
            self._next_s = now_s + self.every_s
        return self.open != was
