"""Connections to one endpoint: opened ahead of time, and used once or again."""

import asyncio
import errno
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replay.http.connection import UNSENT, Connection
from replay.http.exchange import Exchange

IDLE_S = 2.0  # servers close what idles for 5 s; what is about to be closed is not used
REST_S = 0.005  # … nor what has just served: a server that hangs up after a reply does so by then
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL)  # on this machine
Address = tuple[int, Any]  # family and address, resolved


@dataclass(frozen=True)
class Dial:
    """How to connect."""

    address: Address
    host: str
    tls: ssl.SSLContext | None
    timeout_s: float


class Pool:
    """Hands each exchange to a connection; those that find none wait for the next one to open or to have rested."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dial: Dial,
        *,
        reuse: bool,
        ended: Callable[[Exchange], None],
    ):
        self._loop, self._dial, self._reuse, self._done = loop, dial, reuse, ended
        self.idle: deque[Connection] = deque()  # the longest idle first
        self.opening: set[asyncio.Task[None]] = set()
        self.waiting: deque[Exchange] = deque()
        self.opened = self.refused = 0
        self.no_room: str | None = None  # why this machine could not open another one
        self.busy: set[Connection] = set()
        self._resting = False  # whether somebody will look again when the longest idle connection has rested

    def send(self, exchange: Exchange) -> None:
        """Send now, or as soon as there is a connection for it."""
        self.waiting.append(exchange)
        self._serve()
        if len(self.opening) < len(self.waiting):
            self._open()

    def warm(self, wanted: int) -> None:
        """Have `wanted` connections ready or opening."""
        for _ in range(wanted - len(self.idle) - len(self.opening) + len(self.waiting)):
            self._open()

    def drop(self, exchange: Exchange) -> bool:
        """Take an exchange that waits for a connection back; whether it did."""
        try:
            self.waiting.remove(exchange)
        except ValueError:
            return False
        return True

    def close(self) -> None:
        for connection in (*self.idle, *self.busy):
            connection.abort()
        for task in self.opening:
            task.cancel()

    def _open(self) -> None:
        task = self._loop.create_task(self._connect())
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._dial.timeout_s):
                connection = await connect(self._loop, self._dial, self._ended)
        except TimeoutError:
            self._failed("timeout", f"connect: no connection within {self._dial.timeout_s:g} s")
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason or error
            self._failed("error", f"TLS: {why}")
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            if error.errno in NO_ROOM:
                self.no_room = why  # no failure of the server's: who waits goes on waiting
            else:
                self._failed(UNSENT, f"connect: {why}")
        else:
            self.opened += 1
            self._ready(connection)

    def _ready(self, connection: Connection) -> None:
        connection.idle_since_s = time.monotonic()
        self.idle.append(connection)
        self._serve()

    def _serve(self) -> None:
        """Send what waits, as far as there are connections."""
        while self.waiting and (connection := self._fit()) is not None:
            self._use(connection, self.waiting.popleft())
        if self.waiting and self.idle and not self._resting:
            self._resting = True  # a new connection may be long in coming: a full backlog costs a second
            rested_s = time.monotonic() - self.idle[0].idle_since_s
            self._loop.call_later(max(0.0, REST_S - rested_s), self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._serve()

    def _fit(self) -> Connection | None:
        """Take an idle connection that can be used now: the one that has rested longest, or else a new one."""
        while self.idle:
            first = self.idle[0]
            rested_s = time.monotonic() - first.idle_since_s
            if first.served and rested_s < REST_S:
                first = next((c for c in self.idle if not c.served), first)
                if first.served:
                    return None
            self.idle.remove(first)
            if rested_s < IDLE_S and first.alive():
                return first
            first.abort()
        return None

    def _use(self, connection: Connection, exchange: Exchange) -> None:
        self.busy.add(connection)
        connection.send(exchange)

    def _failed(self, status: str, error: str) -> None:
        """A connection did not open; it is somebody's failure only when somebody waits for it."""
        self.refused += 1
        if self.waiting:
            exchange = self.waiting.popleft()
            exchange.failure = (status, error)
            self._done(exchange)

    def _ended(self, connection: Connection, exchange: Exchange | None) -> None:
        """An exchange ended on `connection`; or null: the connection itself did."""
        self.busy.discard(connection)
        if exchange is None:
            return
        exchange.connection = None
        if self._reuse and connection.open:
            self._ready(connection)
        else:
            connection.abort() if exchange.failure else connection.close()
        self._done(exchange)


async def connect(
    loop: asyncio.AbstractEventLoop, dial: Dial, ended: Callable[[Connection, Exchange | None], None]
) -> Connection:
    """Open a connection; OSError when that fails."""
    family, address = dial.address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
        made = Connection(None if dial.tls else sock, ended)
        name = dial.host if dial.tls else None
        await loop.create_connection(lambda: made, sock=sock, ssl=dial.tls, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    return made
