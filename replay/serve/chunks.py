"""Replies as bytes: server-sent events in HTTP chunks, or one JSON document."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle, islice
from typing import Any

import orjson

WORDS = (" token", " after")  # in turn: gateways break off a model that repeats itself
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
DONE, END = b"data: [DONE]\n\n", b"0\r\n\r\n"
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large"}


@dataclass(frozen=True)
class Voice:
    """How one request is answered."""

    number: int
    model: str
    chat: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def role(self) -> bytes:
        """A conversation's first event: who speaks."""
        return self._event({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})

    def token(self, number: int, finish: str | None) -> bytes:
        """The token of that number, from 0 on."""
        which = number % len(WORDS)
        return self._plain[which] if finish is None else self._token(WORDS[which], finish)

    @cached_property
    def _plain(self) -> list[bytes]:
        """What every token but the last is one of."""
        return [self._token(word, None) for word in WORDS]

    def _token(self, word: str, finish: str | None) -> bytes:
        text = {"delta": {"content": word}} if self.chat else {"text": word}
        return self._event({**text, "finish_reason": finish})

    def usage(self, counted: dict[str, Any]) -> bytes:
        return event({**self._frame(), "choices": [], "usage": counted})

    def document(self, tokens: int, counted: dict[str, Any]) -> bytes:
        """The whole reply, for whoever does not want a stream."""
        text = "".join(islice(cycle(WORDS), tokens))
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice |= {"index": 0, "finish_reason": "length"}
        frame = self._frame() | {"object": "chat.completion" if self.chat else "text_completion"}
        return answer(200, {**frame, "choices": [choice], "usage": counted})

    def _event(self, choice: dict[str, Any]) -> bytes:
        return event({**self._frame(), "choices": [{"index": 0, "logprobs": None, **choice}]})

    def _frame(self) -> dict[str, Any]:
        kind, name = ("chatcmpl", "chat.completion.chunk") if self.chat else ("cmpl", "text_completion")
        return {"id": f"{kind}-{self.number}", "object": name, "created": self.created, "model": self.model}


def event(value: Any) -> bytes:
    return chunk(b"data: " + orjson.dumps(value) + b"\n\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(code: int, value: Any, headers: str = "", kind: str = "application/json") -> bytes:
    """A complete reply."""
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    reason = REASONS.get(code, "Error")
    head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def head(answered: bytes) -> bytes:
    """A reply without its body."""
    return b"".join(answered.partition(b"\r\n\r\n")[:2])


def error(code: int, message: str, headers: str = "") -> bytes:
    return answer(code, {"error": {"message": message, "type": REASONS.get(code, "Error"), "code": code}}, headers)
