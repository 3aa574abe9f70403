"""From an exchange that has ended to how the request ended: exactly one status, and an error in words."""

import orjson

from replay.http import sse
from replay.http.exchange import Exchange
from replay.http.sse import Reply, message, shown

REFUSED = {400, 413, 422, 429, 503}  # the server answers that it will not serve this request, or not now


def settle(exchange: Exchange) -> Reply:
    """How the request ended."""
    if exchange.failure is not None:
        return _cut(exchange, *exchange.failure)
    code = exchange.status_code
    if code != 200:
        return Reply("rejected" if code in REFUSED else "error", _why(exchange, code))
    if exchange.encoding not in ("", "identity"):
        return Reply("error", f"content encoding '{shown(exchange.encoding)}', which nobody asked for")
    if not exchange.content_type.startswith(sse.EVENT_STREAM):
        return Reply("error", _wrong_type(exchange))
    return sse.read(exchange.parts, exchange.times)


def _cut(exchange: Exchange, status: str, error: str) -> Reply:
    """What is known of a reply that did not end by itself."""
    if exchange.status_code != 200 or not exchange.content_type.startswith(sse.EVENT_STREAM):
        return Reply(status, error)
    reply = sse.read(exchange.parts, exchange.times, ended=False)
    if reply.status != "ok":
        reply.status, reply.error = status, error
    return reply


def _why(exchange: Exchange, code: int) -> str:
    if exchange.redirect:
        return f"HTTP {code}, a redirect to {shown(exchange.redirect)}: refused"
    said = _said(exchange)
    return f"HTTP {code}: {said}" if said else f"HTTP {code}"


def _wrong_type(exchange: Exchange) -> str:
    body = b"".join(exchange.parts)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if isinstance(parsed, dict) and parsed.get("error"):
        return f"HTTP 200 with an error inside: {message(parsed)}"
    return f"content type '{shown(exchange.content_type)}' instead of {sse.EVENT_STREAM}"


def _said(exchange: Exchange) -> str:
    body = b"".join(exchange.parts)
    try:
        return message(orjson.loads(body)) if body else ""
    except orjson.JSONDecodeError:
        return shown(body)
