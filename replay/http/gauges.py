"""What a worker can say of itself while it works."""

import time
from array import array
from collections import deque
from typing import Any

WINDOW = 2_000  # the latest requests that progress tells of


class Gauges:
    """Counts, and the latest lags and times to first token."""

    def __init__(self) -> None:
        self.sent = self.ended = self.errors = self.retries = self.refused = 0
        self.by_status: dict[str, int] = {}
        self.lag_s: deque[float] = deque(maxlen=WINDOW)
        self.ttft_s: deque[float] = deque(maxlen=WINDOW)
        self.loop_lag_s = array("f")  # every one, twenty a second
        self._cpu_s = time.process_time()

    def start(self) -> None:
        self._cpu_s = time.process_time()

    def note(self, status: str) -> None:
        self.ended += 1
        self.errors += status != "ok"
        self.by_status[status] = self.by_status.get(status, 0) + 1

    @property
    def cpu_s(self) -> float:
        return time.process_time() - self._cpu_s

    def state(self, in_flight: int, waiting: int) -> dict[str, Any]:
        """What progress shows."""
        return {
            "sent": self.sent,
            "ended": self.ended,
            "errors": self.errors,
            "retries": self.retries,
            "in_flight": in_flight,
            "waiting": waiting,
            "lag_p99_s": quantile(self.lag_s, 0.99),
            "ttft_p50_s": quantile(self.ttft_s, 0.5),
            "ttft_p99_s": quantile(self.ttft_s, 0.99),
            "cpu_s": self.cpu_s,
        }


def quantile(values: Any, q: float) -> float | None:
    """The nearest-rank quantile; null of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
