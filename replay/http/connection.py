"""One HTTP/1.1 connection: bytes out at once, bytes in stamped as they arrive, parsed by httptools."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import httptools

from replay.http.exchange import Exchange

UNSENT = "unsent"  # a failure's status when no byte of the request left: it may be tried again


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `ended` hears of each, and then of the connection's own end."""

    def __init__(self, sock: socket.socket | None, ended: Callable[["Connection", Exchange | None], None]):
        self._sock = sock  # null under TLS, where the transport encrypts
        self._ended = ended
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.open = True
        self.idle_since_s = time.monotonic()
        self.served = 0
        self.served_at_most = 0  # by its Keep-Alive header; 0 is unknown
        self._framed = False
        self._now_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def alive(self) -> bool:
        """Whether the server has neither closed the connection nor sent what nobody asked for."""
        if not self.open or self.transport is None or self.transport.is_closing():
            return False
        if self._sock is None:
            return True
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def send(self, exchange: Exchange) -> None:
        """Send a request; it fails as UNSENT when the connection takes no byte of it."""
        self.exchange, exchange.connection = exchange, self
        self._framed = False
        exchange.sent_s = time.monotonic()
        sent = self._write(exchange.data)
        if sent is None:
            exchange.sent_s = None
            self.fail(UNSENT, "connection closed before a byte was sent")

    def _write(self, data: bytes) -> int | None:
        """Bytes taken at once, the rest being queued; null when the connection is broken."""
        assert self.transport is not None
        sent = 0
        if self._sock is not None:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return None
        if sent < len(data):
            self.transport.write(data[sent:] if sent else data)
        return sent

    def fail(self, status: str, error: str) -> None:
        """End the exchange under way, and the connection with it."""
        exchange, self.exchange = self.exchange, None
        self.abort()
        if exchange is not None:
            exchange.failure = (status, error)
            self._ended(self, exchange)

    def close(self) -> None:
        """Close once everything queued is written."""
        self.open = False
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        self.open = False
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._now_s = time.monotonic()
        exchange = self.exchange
        if exchange is None:
            self.abort()
            return
        if exchange.first_byte_s is None:
            exchange.first_byte_s = self._now_s
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ or error) from error  # ours, and not what the server sent
        except httptools.HttpParserError as error:
            self.fail("error", f"not HTTP: {error}")
        except httptools.HttpParserUpgrade:
            self.fail("error", "not HTTP: the server switched to another protocol")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            self._ended(self, None)
            return
        if exchange.status_code >= 200 and not self._framed and error is None:
            self._ended(self, exchange)  # a body that ends with the connection
            return
        exchange.failure = ("error", _where_lost(exchange, error))
        self._ended(self, exchange)

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.exchange is None:
            self.abort()  # a reply that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange, key = self.exchange, name.lower()
        if exchange is None:
            return
        if key == b"content-type":
            exchange.content_type = value.decode("latin-1").lower()
        elif key == b"content-encoding":
            exchange.encoding = value.decode("latin-1").lower()
        elif key in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif key == b"retry-after":
            exchange.retry_after = value.decode("latin-1")
        elif key == b"location":
            exchange.redirect = value.decode("latin-1")
        elif key == b"keep-alive":
            self._limit(value)

    def _limit(self, value: bytes) -> None:
        for item in value.split(b","):
            key, _, number = item.strip().partition(b"=")
            if key == b"max":
                with suppress(ValueError):
                    self.served_at_most = self.served_at_most or max(1, int(number))  # servers count down, or do not

    def on_headers_complete(self) -> None:
        if self.exchange is not None:
            self.exchange.status_code = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None:
            self.exchange.parts.append(body)
            self.exchange.times.append(self._now_s)

    def on_message_complete(self) -> None:
        exchange = self.exchange
        if exchange is None or 100 <= exchange.status_code < 200:
            return
        self.exchange = None
        self.served += 1
        self.idle_since_s = self._now_s
        if not self._parser.should_keep_alive() or (self.served_at_most and self.served >= self.served_at_most):
            self.open = False
        self._ended(self, exchange)


def _where_lost(exchange: Exchange, error: Exception | None) -> str:
    how = "reset" if isinstance(error, ConnectionResetError) else "closed"
    if exchange.first_byte_s is None:
        return f"connection {how} before headers"
    if exchange.status_code < 200:  # none yet, or "100 Continue" and the like, which others follow
        return f"connection {how} within headers"
    return f"connection {how} within the body after {sum(map(len, exchange.parts)):,} bytes"
