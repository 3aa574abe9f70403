"""Sends a plan on time: each request at its instant, nothing in between but a connection."""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replay.http import pacing, replies
from replay.http.admission import Admission, Line
from replay.http.ahead import Ahead
from replay.http.bodies import Bodies
from replay.http.breaker import Breaker
from replay.http.closed_loop import ClosedLoop
from replay.http.connection import UNSENT
from replay.http.deadlines import TICK_S, Deadlines, Timeouts
from replay.http.exchange import Exchange
from replay.http.gauges import Gauges
from replay.http.lines import Ranked
from replay.http.outcome_lines import OutcomeLines
from replay.http.pool import Dial, Pool
from replay.http.retrying import retry_after_s
from replay.http.rows import Row

WARM_S = 0.12  # connections are opened this long before they are needed
SPARE = 4  # connections beyond those in use in a closed loop, where nobody knows when the next is needed
SLACK_S = 0.0004  # nothing else is begun this shortly before a request is due
SLICE_S = 0.001  # how long other work goes on at a time
BACKLOG = 512  # replies that may wait to be read, however little time there is


@dataclass(frozen=True)
class Route:
    """Where a request goes and how its bytes are made."""

    dial: Dial
    bodies: Bodies


class Sender:
    """Sends a plan's rows and reports every outcome once, as a line of the journal."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        routes: Sequence[Route],
        rows: Iterator[Row],
        *,
        turns: Callable[[list[int]], list[Row]] = lambda places: [],
        write: Callable[[list[dict[str, Any]]], None],
        limits: Timeouts,
        hidden: Sequence[str] = (),
        retries: int = 2,
        reuse: bool = True,
        most: int | None = None,
        line: Line | None = None,
        breaker: Breaker | None = None,
        concurrency: int | None = None,
        drain_s: float | None = None,
        last_s: float = 0.0,
        token_times: bool = False,
    ):
        """`last_s` is the last arrival by the clock, of any worker's; `drain_s` after it nothing is waited for."""
        self._loop, self._turns, self._write = loop, turns, write
        self._ahead = Ahead(rows, [route.bodies for route in routes], concurrency)
        pools = {id(d): Pool(loop, d, reuse=reuse, ended=self._ended) for d in (r.dial for r in routes)}
        self._pools = [pools[id(route.dial)] for route in routes]
        self._all_pools = list(pools.values())
        self._lines, self._retries = OutcomeLines(hidden, token_times=token_times), retries
        self._admission = Admission(most, Ranked() if line is None else line)  # an empty line is false
        self._breakers = {pool: replace(breaker or Breaker()) for pool in self._all_pools}
        self._closed = None if concurrency is None else ClosedLoop(concurrency)
        self._drain_s, self._last_s = drain_s, last_s
        self._drain_at_s = pacing.NEVER_S
        self._drained = False
        self._deadlines = Deadlines(limits)
        self.gauges = Gauges()
        self._agenda: list[tuple[float, int, Exchange]] = []  # what is to be sent, by when
        self._flying: set[Exchange] = set()
        self._ended_unread: deque[Exchange] = deque()
        self._working = self._filling = False
        self._stopping = False
        self._alarm = pacing.alarm(loop, self._ring)
        self._tick: asyncio.TimerHandle | None = None
        self._expected_s = 0.0
        self.done: asyncio.Future[None] = loop.create_future()

    @property
    def origin_s(self) -> float:
        """The instant (time.monotonic) of the trace's second 0."""
        return self._lines.origin_s

    @property
    def pacing(self) -> str:
        return self._alarm.name

    def prepare(self) -> None:
        """Make the first requests and open the first connections before the start."""
        while self._make_one(0.0):
            pass
        for pool in self._all_pools:
            pool.warm(1)

    def start(self, at_s: float, from_s: float) -> None:
        """Begin: the trace's second `from_s` is the instant `at_s` (time.monotonic)."""
        self._lines.origin_s = at_s - from_s
        self._agenda = [(at + self.origin_s, n, self._shifted(e)) for at, n, e in self._agenda]
        self.gauges.start()
        self._set()
        self._expected_s = time.monotonic()
        if self._closed is not None:
            self._loop.call_later(max(0.0, at_s - time.monotonic()), self._open)
        elif self._drain_s is not None:
            self._drain_at_s = self.origin_s + self._last_s + self._drain_s
        self._watch()

    def _open(self) -> None:
        if self._closed is not None:
            self._closed.begin()
            self._fill()

    def stop(self, grace_s: float) -> None:
        """Send nothing more; what is under way may end within `grace_s`, and is else left without an outcome."""
        self._stopping = self._ahead.exhausted = True
        self._agenda.clear()
        self._admission.line.clear()
        if self._closed is not None:
            self._closed.clear()
        self._loop.call_later(grace_s, self._abandon)
        self._check_done()

    def _shifted(self, exchange: Exchange) -> Exchange:
        exchange.arrival_s += self.origin_s
        exchange.due_s += self.origin_s
        return exchange

    # When it is time.

    def _ring(self) -> None:
        agenda = self._agenda
        while agenda and agenda[0][0] <= time.monotonic() + pacing.EARLY_S:
            due_s, _, exchange = heapq.heappop(agenda)
            if exchange.admitted:
                self._launch(exchange)
                continue
            self._ahead.taken(exchange)
            if self._admission.admit(exchange):
                pacing.wait_out(due_s)
                self._launch(exchange)
        self._set()
        self._work_soon()

    def _set(self) -> None:
        self._alarm.set(self._agenda[0][0] if self._agenda else pacing.NEVER_S)

    def _launch(self, exchange: Exchange) -> None:
        now_s = time.monotonic()
        breaker = self._breakers[self._pools[exchange.route]]
        if not breaker.lets(now_s):
            exchange.failure = ("cancelled", f"not sent: {breaker.in_a_row} failures in a row before it")
            self._finish(exchange)
            return
        exchange.attempts += 1
        exchange.launched_s = now_s
        self.gauges.sent += 1
        self._flying.add(exchange)
        self._deadlines.watch(exchange)
        self._pools[exchange.route].send(exchange)

    def _fill(self) -> None:
        """In a closed loop, send whoever has a place; not while every server is gone."""
        if self._closed is None or self._filling:
            return
        self._filling = True  # what is not sent, for its server is gone, leaves its place at once
        now_s = time.monotonic()
        while any(b.would_let(now_s) for b in self._breakers.values()):
            exchange = self._closed.take(now_s)
            if exchange is None:
                break
            self._ahead.taken(exchange)
            self._launch(exchange)
            now_s = time.monotonic()
        self._filling = False

    # When a reply has ended.

    def _ended(self, exchange: Exchange) -> None:
        if exchange not in self._flying:
            return
        self._flying.discard(exchange)
        self._deadlines.forget(exchange)
        now_s = time.monotonic()
        answered = exchange.failure is None or exchange.first_byte_s is not None
        breaker = self._breakers[self._pools[exchange.route]]
        if breaker.heard(answered, now_s):
            self._write([self._lines.event("circuit", exchange, now_s, "open" if breaker.open else "closed")])
        wait_s = retry_after_s(exchange) if exchange.attempts <= self._retries and not self._stopping else None
        if wait_s is not None:
            self._again(exchange, now_s, wait_s)
        else:
            self._finish(exchange)

    def _again(self, exchange: Exchange, now_s: float, wait_s: float) -> None:
        why = exchange.failure[1] if exchange.failure else f"HTTP {exchange.status_code}"
        self.gauges.retries += 1
        self._write([self._lines.event("retry", exchange, now_s, f"{why}; again after {wait_s:.3g} s")])
        exchange.clear()
        exchange.due_s = now_s + wait_s
        self._put(exchange)

    def _put(self, exchange: Exchange) -> None:
        heapq.heappush(self._agenda, (exchange.due_s, exchange.row.id, exchange))
        self._set()

    def _finish(self, exchange: Exchange) -> None:
        """The request's last attempt has ended; its reply is read when there is time."""
        self._ended_unread.append(exchange)
        now_s = time.monotonic()
        if (following := self._admission.leave(now_s)) is not None:
            following.due_s = now_s
            self._put(following)
        if self._closed is not None:
            self._closed.leave()
            self._fill()
        self._work_soon()

    # What is done in between.

    def _work_soon(self) -> None:
        if not self._working:
            self._working = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Read replies and make requests until the next one is due; at least what cannot wait."""
        self._working = False
        now_s = time.monotonic()
        until_s = min(now_s + SLICE_S, self._agenda[0][0] - SLACK_S if self._agenda else pacing.NEVER_S)
        lines: list[dict[str, Any]] = []
        while (busy := self._must()) or now_s < until_s:
            if self._ended_unread and (len(self._ended_unread) > BACKLOG or not busy):
                lines.append(self._settled(self._ended_unread.popleft()))
            elif not self._make_one(now_s):
                break
            now_s = time.monotonic()
        if lines:
            self._write(lines)
        room = not self._agenda or now_s < self._agenda[0][0] - SLACK_S
        if room and (self._ended_unread or self._ahead.wants(now_s)):
            self._work_soon()
        self._check_done()

    def _must(self) -> bool:
        """Whether there is work that cannot wait for a better moment."""
        return len(self._ended_unread) > BACKLOG or not (self._ahead.waiting or self._ahead.exhausted)

    def _make_one(self, now_s: float) -> bool:
        """Make the next of the plan's requests, if it is wanted."""
        row = self._ahead.next_row() if self._ahead.wants(now_s) else None
        if row is not None:
            self._schedule(row)
        return row is not None

    def _schedule(self, row: Row) -> None:
        assert row.arrival_s is not None
        due_s = row.arrival_s + self.origin_s
        if self._drained:
            self._leave_out(Exchange(row, b"", due_s))
            return
        exchange = self._ahead.make(row, due_s)
        if self._closed is not None:
            self._closed.put(exchange)
            self._fill()
            return
        heapq.heappush(self._agenda, (due_s, row.id, exchange))
        if self._agenda[0][2] is exchange and self.origin_s:
            self._set()

    # Outcomes.

    def _settled(self, exchange: Exchange) -> dict[str, Any]:
        """The journal's line for a request that has ended; the turns that waited for it are scheduled."""
        reply = replies.settle(exchange)
        if reply.status == UNSENT:
            reply.status = "error"
        self.gauges.note(reply.status)
        if exchange.sent_s is not None:
            self.gauges.lag_s.append(exchange.sent_s - exchange.due_s)
        if reply.first_token_s is not None:
            self.gauges.ttft_s.append(reply.first_token_s - exchange.arrival_s)
        self._admission.line.ended(exchange, reply.output_tokens)
        self._release(exchange, reply.last_token_s or time.monotonic())
        return self._lines.ended(exchange, reply)

    def _release(self, exchange: Exchange, end_s: float) -> None:
        """Schedule the turns that waited for this request to end."""
        if self._stopping or not exchange.row.turns:
            return
        for row in self._turns(exchange.row.turns):
            row.arrival_s = end_s - self.origin_s + row.think_s
            self._schedule(row)
        self._set()

    # A few times a second.

    def _watch(self) -> None:
        now_s = time.monotonic()
        self.gauges.loop_lag_s.append(now_s - self._expected_s)
        for exchange, why in self._deadlines.late(now_s):
            self._late(exchange, why)
        self._drain(now_s)
        self._fill()
        self._warm(now_s)
        self._admission.line.tick(now_s)
        self._expected_s = now_s + TICK_S
        self._tick = self._loop.call_later(TICK_S, self._watch)
        self._work_soon()

    def _late(self, exchange: Exchange, why: str, status: str = "timeout") -> None:
        if exchange.connection is not None:
            exchange.connection.fail(status, why)
        elif self._pools[exchange.route].drop(exchange):
            exchange.failure = (status, why)
            self._ended(exchange)

    def _drain(self, now_s: float) -> None:
        """Once the time to wait after the last arrival has passed, end what has not ended, each with its outcome."""
        if self._drain_s is None or self._drained or self._stopping:
            return
        if self._closed is not None and self._ahead.exhausted and not len(self._closed):
            self._drain_at_s = min(self._drain_at_s, now_s + self._drain_s)
        if now_s < self._drain_at_s:
            return
        self._drained = True
        line = self._admission.line
        for exchange in [*(entry[2] for entry in self._agenda), *(line.take(now_s) for _ in range(len(line)))]:
            self._leave_out(exchange)
        self._agenda.clear()
        self._ahead.forget()
        self._set()
        for exchange in list(self._flying):
            self._late(exchange, f"drain: not ended {self._drain_s:g} s after the last arrival", "unfinished")

    def _leave_out(self, exchange: Exchange) -> None:
        """What was not sent, or not again, when it was time to end."""
        exchange.failure = ("unfinished", f"drain: not sent {self._drain_s:g} s after the last arrival")
        self._ended_unread.append(exchange)
        self._work_soon()

    def _warm(self, now_s: float) -> None:
        """Open the connections that will be needed soon."""
        soon: dict[int, int] = {}
        for due_s, _, exchange in self._agenda:
            if due_s < now_s + WARM_S:
                key = id(self._pools[exchange.route])
                soon[key] = soon.get(key, 0) + 1
        spare = 0 if self._closed is None else SPARE + self._closed.waits_to_begin // len(self._all_pools)
        for pool in self._all_pools:
            pool.warm(max(spare, soon.get(id(pool), 0)))

    def _abandon(self) -> None:
        for pool in self._all_pools:
            pool.close()
        self._flying.clear()
        self._check_done()

    def _check_done(self) -> None:
        waiting = len(self._admission.line) + (len(self._closed) if self._closed is not None else 0)
        idle = self._ahead.exhausted and not (self._agenda or self._flying or self._ended_unread or waiting)
        if idle and not self.done.done():
            self._alarm.close()
            if self._tick is not None:
                self._tick.cancel()
            for pool in self._all_pools:
                pool.close()
            self.done.set_result(None)

    def state(self) -> dict[str, Any]:
        """What progress shows."""
        opened, refused = (sum(getattr(p, name) for p in self._all_pools) for name in ("opened", "refused"))
        return self.gauges.state(len(self._flying), len(self._admission.line)) | {
            "connections": opened,
            "connections_refused": refused,
            "no_room": next((p.no_room for p in self._all_pools if p.no_room), None),
            "circuit_opened": sum(breaker.opened for breaker in self._breakers.values()),
            "by_status": self.gauges.by_status,
        }
