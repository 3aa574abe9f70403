"""A line on stderr, while it sends, when that is a terminal."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

EVERY_S = 0.5
CLEAR = "\r\x1b[K"


class Live:
    """Shows sent, in flight, errors, lag and TTFT, as far as there are `columns`."""

    def __init__(self, total: int, columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns):
        self._total, self._columns, self._next_s = total, columns, 0.0
        self._on = sys.stderr.isatty()

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._on:
            sys.stderr.write(CLEAR)

    def show(self, states: Sequence[dict[str, Any]]) -> None:
        if self._on and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            sys.stderr.write(CLEAR + line(states, self._total)[: self._columns() - 1])
            sys.stderr.flush()


def line(states: Sequence[dict[str, Any]], total: int) -> str:
    """What the workers say together; the worst of their percentiles."""
    known = [s for s in states if s]
    sent, flying, waiting, errors, retries = (
        sum(s[k] for s in known) for k in ("sent", "in_flight", "waiting", "errors", "retries")
    )
    lag, p50, p99 = (_most(known, k) for k in ("lag_p99_s", "ttft_p50_s", "ttft_p99_s"))
    waits = f", {waiting:,} waiting" if waiting else ""
    again = f", {retries:,} again" if retries else ""
    return (
        f"sent {sent:,} of {total:,}, {flying:,} in flight{waits}, {errors:,} errors{again}, "
        f"lag P99 {lag}, TTFT P50 {p50} P99 {p99}"
    )


def _most(states: Sequence[dict[str, Any]], key: str) -> str:
    values = [s[key] for s in states if s.get(key) is not None]
    return f"{max(values) * 1e3:.1f} ms" if values else "–"
