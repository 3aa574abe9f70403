"""An alarm on CLOCK_MONOTONIC with an absolute deadline: a timerfd on Linux, else the event loop's own timer.

Event loops count in milliseconds, which is a millisecond late at the 99th percentile; the kernel's timer is not.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

CLOCK_MONOTONIC, NONBLOCKING, ABSOLUTE = 1, os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0), 1
NEVER_S = float("inf")
EARLY_S = 0.000_06  # the alarm is set this much early, and the rest is waited out: waking takes about as long


class Alarm(Protocol):
    """Calls back once when its time has come; setting it again moves it."""

    name: str

    def set(self, at_s: float) -> None:
        """Ring at `at_s` (time.monotonic), at once when that is past, never when it is infinite."""
        ...

    def close(self) -> None: ...


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class TimerFd:
    """The kernel's timer as a file the event loop watches."""

    name = "timerfd"

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCKING)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop, self._ring, self._spec, self._at_s = loop, ring, _Spec(), NEVER_S
        loop.add_reader(self._fd, self._rang)

    def set(self, at_s: float) -> None:
        if at_s == self._at_s:
            return
        self._at_s = at_s
        at_ns = 0 if at_s == NEVER_S else max(1, int((at_s - EARLY_S) * 1e9))
        self._spec.at_s, self._spec.at_ns = divmod(at_ns, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, ABSOLUTE, ctypes.byref(self._spec), None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _rang(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set again after it had rung
        self._at_s = NEVER_S
        self._ring()


class LoopTimer:
    """The event loop's own timer, for systems without a timerfd."""

    name = "event loop"

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]):
        self._loop, self._ring = loop, ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        self.close()
        if at_s != NEVER_S:
            self._handle = self._loop.call_later(max(0.0, at_s - time.monotonic()), self._ring)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> Alarm:
    """The most exact alarm there is here."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError, NotImplementedError):  # an old kernel or libc, or a loop without files
            return TimerFd(loop, ring)
    return LoopTimer(loop, ring)


def wait_out(at_s: float) -> float:
    """Spin until `at_s`, which is at most EARLY_S away; the time it is then."""
    while (now := time.monotonic()) < at_s:
        pass
    return now
