"""One request under way: what is sent, and what came back, stamped as it came."""

from typing import Any

from replay.http.rows import Row


class Exchange:
    """A request and its reply. Times are time.monotonic(); what has not happened is None."""

    __slots__ = (
        "admitted",
        "arrival_s",
        "attempts",
        "connection",
        "content_type",
        "data",
        "deadline_s",
        "due_s",
        "encoding",
        "failure",
        "first_byte_s",
        "launched_s",
        "parts",
        "redirect",
        "retry_after",
        "route",
        "row",
        "sent_s",
        "status_code",
        "times",
    )

    def __init__(self, row: Row, data: bytes, arrival_s: float):
        self.row, self.data, self.route = row, data, row.route
        self.arrival_s = self.due_s = arrival_s  # intended; and when it was to be sent: later if it was held or retried
        self.attempts = 0
        self.admitted = False
        self.launched_s = arrival_s  # when an attempt began: the connection may still have to open
        self.connection: Any = None
        self.clear()

    def clear(self) -> None:
        """Forget an attempt."""
        self.sent_s: float | None = None
        self.first_byte_s: float | None = None
        self.status_code = 0
        self.content_type = ""
        self.encoding = ""
        self.retry_after = ""
        self.redirect = ""
        self.times: list[float] = []  # when each of `parts` arrived
        self.parts: list[bytes] = []
        self.failure: tuple[str, str] | None = None  # (status, error)
        self.deadline_s = 0.0
