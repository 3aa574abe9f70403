"""The journal's line for a request that has ended, and for what happened to one on the way."""

from collections.abc import Sequence
from typing import Any

from replay.http.endpoint import redacted
from replay.http.exchange import Exchange
from replay.http.sse import Reply


class OutcomeLines:
    """Writes times on the trace's clock, whose second 0 is `origin_s`, and no secret (`hidden`)."""

    def __init__(self, hidden: Sequence[str], *, token_times: bool):
        self._hidden, self._token_times = list(hidden), token_times
        self.origin_s = 0.0

    def ended(self, exchange: Exchange, reply: Reply) -> dict[str, Any]:
        """How a request ended."""
        line = {
            "id": exchange.row.id,
            "status": reply.status,
            "error": redacted(reply.error, self._hidden),
            "attempts": exchange.attempts,
            "arrival_s": exchange.arrival_s - self.origin_s,
            "due_s": exchange.due_s - self.origin_s,
            "sent_s": self._trace_s(exchange.sent_s),
            "first_byte_s": self._trace_s(exchange.first_byte_s),
            "first_token_s": self._trace_s(reply.first_token_s),
            "finish_s": self._trace_s(reply.last_token_s),
            "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": reply.cached_tokens,
            "output_tokens": reply.output_tokens,
            "chunks": reply.chunks,
            "disagrees": reply.disagrees,
        }
        if self._token_times and len(reply.times) == reply.output_tokens:
            line["token_s"] = [at_s - exchange.arrival_s for at_s in reply.times]
        return line

    def event(self, kind: str, exchange: Exchange, now_s: float, detail: str) -> dict[str, Any]:
        """What happened to a request."""
        return {
            "event": kind,
            "id": exchange.row.id,
            "time_s": now_s - self.origin_s,
            "detail": redacted(detail, self._hidden),
        }

    def _trace_s(self, at_s: float | None) -> float | None:
        return None if at_s is None else at_s - self.origin_s
