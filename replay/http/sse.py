"""What a reply says, read from its stamped parts after it has ended: off the path where time is taken.

A chunk is not a token: tokens are counted by `usage`, or token ids, never by chunks. Nor does the first token show as
the first text: servers stream empty text for special tokens, so it is the first chunk with choices that is no mere
announcement of the role.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from toolkit.errors import printable

EVENT_STREAM = "text/event-stream"
Alike = tuple[bytes, bytes]
SHOWN, CUT = 200, "…"  # characters of what a server says, and what stands for more of them
BOM = b"\xef\xbb\xbf"
FAILED = ("abort", "error")  # reasons to finish that say that the engine did not
COUNTED = (b'"usage":{', b'"role"', b'"token_ids":[')  # chunks with these are parsed one by one
MOST = 2**31 - 1  # tokens that a table can hold


@dataclass(slots=True)
class Reply:
    """A reply as the server produced it. Times are those of the parts; null is unknown."""

    status: str = "ok"
    error: str | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    times: list[float] = field(default_factory=list)  # of the chunks with tokens in them
    disagrees: str | None = None  # what `usage` says and the stream does not

    @property
    def chunks(self) -> int:
        return len(self.times)


def read(parts: Sequence[bytes], times: Sequence[float], *, ended: bool = True) -> Reply:
    """Read a stream of server-sent events; `ended` is false where the connection was cut before the body's end.

    `[DONE]` is the end of the reply even then.
    """
    reply, token_ids, began, finished = Reply(), 0, False, False
    alike: Alike | None = None
    for at_s, payload in events(parts, times):
        if alike is not None and payload.startswith(alike[0]) and payload.endswith(alike[1]):
            reply.last_token_s = at_s
            reply.times.append(at_s)
            continue
        if payload == b"[DONE]":
            finished = ended = True
            continue
        event = _parsed(payload)
        if event is None:
            return _failed(reply, f"malformed event: {shown(payload)}")
        if _tells_an_error(event):
            return _failed(reply, f"error in the stream: {message(event)}")
        choices = event.get("choices")
        if choices:
            began = True
            finished |= _take(reply, choices[0], at_s, finished)
            if choices[0].get("finish_reason") in FAILED:
                return _failed(reply, f"finish_reason '{choices[0]['finish_reason']}'")
            alike = _shape(payload) if reply.chunks and not finished else None
            token_ids += len(choices[0].get("token_ids") or ())
        if event.get("usage"):
            _count(reply, event["usage"])
    if not finished or not ended:
        return _failed(reply, "truncated: the stream ended without finish_reason or [DONE]")
    return _checked(reply, token_ids) if began else _failed(reply, "empty: no choices before [DONE]")


def events(parts: Sequence[bytes], times: Sequence[float]) -> Iterator[tuple[float, bytes]]:
    """The data of each event, its lines joined, and when the part with its end arrived."""
    held: list[bytes] = []  # of a line that has not ended
    data: list[bytes] = []  # of an event that has not ended
    at_s = 0.0
    for part, at_s in zip(parts, times, strict=True):
        whole = part.endswith(b"\n\n") and part.startswith(b"data: ") and part.count(b"\n") == 2
        if whole and not held and not data:
            yield at_s, part[6:-2]  # as nearly all are
            continue
        held.append(part)
        if b"\n" not in part:
            continue
        *lines, rest = b"".join(held).split(b"\n")
        held = [rest] if rest else []
        for line in lines:
            if line.removeprefix(BOM).startswith(b"data:"):
                data.append(line.removeprefix(BOM)[5:].strip())
            elif line in (b"", b"\r") and any(data):
                yield at_s, b"\n".join(data)
                data = []
    if any(data):
        yield at_s, b"\n".join(data)


def _parsed(payload: bytes) -> dict[str, Any] | None:
    """An event of the shape that the API gives it, or null."""
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict):
        return None
    choices, usage = event.get("choices") or [], event.get("usage") or {}
    if not isinstance(choices, list) or not isinstance(usage, dict):
        return None
    choice = choices[0] if choices else {}
    return event if isinstance(choice, dict) and _typed(choice) else None


def _typed(choice: dict[str, Any]) -> bool:
    delta, token_ids = choice.get("delta"), choice.get("token_ids")
    return isinstance(delta, dict | None) and isinstance(token_ids, list | None)


def _tells_an_error(event: dict[str, Any]) -> bool:
    return bool(event.get("error") or ("choices" not in event and (event.get("message") or event.get("detail"))))


def _shape(payload: bytes) -> Alike | None:
    """What stands before and after a plain chunk's text: others that differ in it alone need not be parsed.

    A quote within a JSON string is escaped, so neither part can be matched by a text.
    """
    goes_on = b'"finish_reason":null' in payload or b'"finish_reason"' not in payload
    if not goes_on or any(key in payload for key in COUNTED):
        return None
    for key in (b'"content":"', b'"text":"'):
        start = payload.find(key)
        if start >= 0:
            start += len(key)
            end = payload.find(b'"', start)
            return None if b"\\" in payload[start:end] else (payload[:start], payload[end:])
    return None


def _take(reply: Reply, choice: dict[str, Any], at_s: float, finished: bool) -> bool:
    """Note a chunk with choices; whether it is the last. Gateways give a choice to the chunk with `usage`, too."""
    ends = choice.get("finish_reason") is not None
    if _has_token(choice) and not finished:
        if reply.first_token_s is None:
            reply.first_token_s = at_s
        reply.last_token_s = at_s
        reply.times.append(at_s)
    elif ends and reply.last_token_s is None:
        reply.last_token_s = at_s  # no chunk for its tokens: they came with the end, if there were any
    return ends


def _has_token(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if delta is None:
        return choice.get("finish_reason") is None or bool(choice.get("text"))
    if delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or delta.get("tool_calls"):
        return True
    return "role" not in delta and choice.get("finish_reason") is None


def _count(reply: Reply, usage: dict[str, Any]) -> None:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    said = (usage.get("prompt_tokens"), cached, usage.get("completion_tokens"))
    if not all(n is None or (type(n) is int and 0 <= n <= MOST) for n in said):
        reply.disagrees = "usage holds what is no number of tokens"
        return
    reply.prompt_tokens, reply.cached_tokens, reply.output_tokens = said


def _checked(reply: Reply, token_ids: int) -> Reply:
    if reply.output_tokens is None and token_ids:
        reply.output_tokens = token_ids
    if reply.first_token_s is None and reply.output_tokens:
        reply.first_token_s = reply.last_token_s
    if reply.output_tokens is not None and reply.output_tokens < reply.chunks:
        reply.disagrees = f"usage says {reply.output_tokens} output tokens, but {reply.chunks} chunks came"
    elif token_ids and reply.output_tokens != token_ids:
        reply.disagrees = f"usage says {reply.output_tokens} output tokens, but {token_ids} token ids came"
    return reply


def _failed(reply: Reply, error: str) -> Reply:
    reply.status, reply.error = "error", error
    return reply


def message(body: Any) -> str:
    """The text of an error as servers word it: {"error": {"message"}}, {"error": text}, {"message"}, {"detail"}."""
    if isinstance(body, dict):
        for key in ("error", "message", "detail"):
            if body.get(key):
                return message(body[key])
    return shown(body if isinstance(body, bytes | str) else orjson.dumps(body))


def shown(text: bytes | str) -> str:
    """What a server said, cut and printable."""
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return printable(said[:SHOWN]) + (CUT if len(said) > SHOWN else "")
