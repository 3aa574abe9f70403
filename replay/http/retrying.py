"""When a failed attempt may be made again: only where the server cannot have begun to serve it."""

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from replay.http.connection import UNSENT
from replay.http.exchange import Exchange

BUSY = (429, 503)
FIRST_S, LONGEST_S = 0.25, 30.0


def retry_after_s(exchange: Exchange, now: datetime | None = None) -> float | None:
    """Seconds to wait before the next attempt; null when there must be none."""
    backoff = min(FIRST_S * 2.0 ** (exchange.attempts - 1), LONGEST_S)
    if exchange.failure is not None:
        return backoff if exchange.failure[0] == UNSENT else None
    if exchange.status_code not in BUSY:
        return None
    asked = _seconds(exchange.retry_after, now or datetime.now(UTC))
    if asked is None:
        return backoff
    return asked if asked <= LONGEST_S else None


def _seconds(text: str, now: datetime) -> float | None:
    """Retry-After: a number of seconds, or a date."""
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    return None
