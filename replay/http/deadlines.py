"""How long a request may take, checked a few times a second without a timer for each."""

from collections import defaultdict
from dataclasses import dataclass, fields
from math import inf

from replay.http.exchange import Exchange
from toolkit.errors import SettingFailure, nearest

TICK_S = 0.05
WAIT_S = 120.0  # at most, for what is asked before and beside a replay


@dataclass(frozen=True)
class Timeouts:
    """Seconds to connect, to the first byte of the body, between two parts of it, and in all."""

    connect: float = 10.0
    first: float = 300.0
    gap: float = 60.0
    total: float = 3600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < inf:
                raise SettingFailure("must be a number of seconds above 0", where=f"--timeout {field.name}")

    @property
    def answer(self) -> float:
        """For the whole of an answer of a few tokens, before a replay."""
        return min(WAIT_S, self.first)

    def next_s(self, exchange: Exchange, now_s: float) -> float:
        """When to look at the exchange next: by then it may be late."""
        if exchange.times:
            return min(exchange.times[-1] + self.gap, exchange.launched_s + self.total)
        return min(exchange.launched_s + min(self.first, self.total), now_s + self.gap)

    def exceeded(self, exchange: Exchange, now_s: float) -> str | None:
        """Which limit the exchange has passed, in words."""
        if now_s - exchange.launched_s >= self.total:
            return f"total: not ended {self.total:g} s after it was sent"
        if not exchange.times:
            late = now_s - exchange.launched_s >= self.first
            return f"first token: nothing came for {self.first:g} s" if late else None
        return f"gap: nothing came for {self.gap:g} s" if now_s - exchange.times[-1] >= self.gap else None


def timeouts(text: str) -> Timeouts:
    """Read `connect=5,first=120,gap=30,total=600`; what is left out keeps its default."""
    given: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, value = (part.strip() for part in item.partition("="))
        known = [f.name for f in fields(Timeouts)]
        if name not in known:
            raise SettingFailure(f"no limit '{name}'", where="--timeout", hint=nearest(name, known))
        try:
            given[name] = float(value)
        except ValueError as error:
            raise SettingFailure(f"'{value}' is no number of seconds", where=f"--timeout {name}") from error
    return Timeouts(**given)


class Deadlines:
    """Exchanges under way, in buckets of TICK_S by when each is to be looked at next."""

    def __init__(self, limits: Timeouts):
        self.limits = limits
        self._buckets: dict[int, set[Exchange]] = defaultdict(set)

    def watch(self, exchange: Exchange) -> None:
        exchange.deadline_s = self.limits.next_s(exchange, exchange.launched_s)
        self._buckets[_bucket(exchange.deadline_s)].add(exchange)

    def forget(self, exchange: Exchange) -> None:
        self._buckets[_bucket(exchange.deadline_s)].discard(exchange)

    def late(self, now_s: float) -> list[tuple[Exchange, str]]:
        """The exchanges that have passed a limit, and which; the others are put off."""
        found = []
        for bucket in sorted(b for b in self._buckets if b <= _bucket(now_s)):
            for exchange in self._buckets.pop(bucket):
                why = self.limits.exceeded(exchange, now_s)
                if why is None:
                    exchange.deadline_s = max(self.limits.next_s(exchange, now_s), now_s + TICK_S)
                    self._buckets[_bucket(exchange.deadline_s)].add(exchange)
                else:
                    found.append((exchange, why))
        return found


def _bucket(at_s: float) -> int:
    return int(at_s / TICK_S)
