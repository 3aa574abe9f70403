"""Asking another host for its CLOCK_MONOTONIC: eight bytes a question, over TCP."""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from replay.http.clocks import Exchange

TIME = struct.Struct("!d")
CONNECT_S = 2.0
QUESTIONS = 64


class ClockServer:
    """Answers each byte that comes with what the clock shows, in threads of its own."""

    def __init__(self, host: str = "", clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._socket = socket.create_server((host, 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while connection.recv(1):
                connection.sendall(TIME.pack(self._clock()))

    def close(self) -> None:
        self._socket.close()


def ask(address: tuple[str, int], questions: int = QUESTIONS) -> list[Exchange]:
    """So many exchanges, one after the other; OSError where nobody answers."""
    found = []
    with socket.create_connection(address, CONNECT_S) as connection:
        connection.settimeout(CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(questions):
            asked_s = time.monotonic()
            connection.sendall(b"?")
            theirs_s = _read(connection)
            found.append(Exchange(asked_s, theirs_s, time.monotonic()))
    return found


def _read(connection: socket.socket) -> float:
    data = b""
    while len(data) < TIME.size:
        more = connection.recv(TIME.size - len(data))
        if not more:
            raise ConnectionError("the clock is gone")
        data += more
    return float(TIME.unpack(data)[0])
