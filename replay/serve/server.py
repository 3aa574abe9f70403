"""The HTTP side: one protocol a connection, replies token by token as the engine produces them."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import IO, Any

import httptools
import orjson

from replay.planning.jobs import Job
from replay.serve import chunks
from replay.serve.asked import Asked, Refused, read
from replay.serve.chunks import Voice
from replay.serve.faults import Faults
from replay.serve.metrics import Metrics
from replay.serve.pace import Pace
from replay.serve.tokens import numbered

RETRY_AFTER_S = 1
MOST_BYTES = 64 << 20
PATHS = {b"/v1/completions": False, b"/v1/chat/completions": True}


@dataclass
class House:
    """What all connections share."""

    model: str
    pace: Pace
    faults: Faults
    rng: random.Random
    metrics: Metrics
    end: "asyncio.Future[None]"
    number: int = 0
    began_s: float = field(default_factory=time.time)
    log: IO[bytes] | None = None

    def fault(self, user: Any) -> str | None:
        """What is done to a request on purpose; noted in the log."""
        drawn = self.faults.draw()
        if self.log is not None:
            name = user if isinstance(user, str) and user.isascii() and user.isalnum() else "-"
            self.log.write(f"{name[:64]} {drawn or '-'}\n".encode())
        return drawn

    def stop(self, error: BaseException | None = None) -> None:
        """End the server; with an error where one is ours, for nothing may fail unnoticed."""
        if not self.end.done():
            self.end.set_exception(error) if error else self.end.set_result(None)

    def gauges(self) -> dict[str, float]:
        engine = self.pace.engine
        return {
            "num_requests_running": len(engine.running),
            "num_requests_waiting": engine.waiting,
            "kv_cache_usage_perc": engine.memory.used / engine.limits.kv_blocks,
        }

    def page(self) -> bytes:
        limits = self.pace.engine.limits
        told = f'block_size="{limits.block_tokens}",num_gpu_blocks="{limits.kv_blocks}"'
        self.metrics.about = f"vllm:cache_config_info{{{told}}} 1.0\n"
        self.metrics.counters["num_preemptions_total"] = self.pace.engine.preemptions
        return self.metrics.text(self.gauges()).encode()

    def models(self) -> dict[str, Any]:
        entry = {
            "id": self.model,
            "object": "model",
            "created": int(self.began_s),
            "owned_by": "trace-serve",
            "max_model_len": self.pace.engine.limits.max_model_len,
        }
        return {"object": "list", "data": [entry]}

    def job(self, asked: Asked) -> Job:
        """A job of the engine's; of two with the same priority the first to come runs first."""
        self.number += 1
        tokens = numbered(asked.tokens, asked.output)
        rank, now_s = float(asked.priority), time.monotonic()
        return Job(self.number, len(asked.tokens), asked.output, now_s, rank=rank, tokens=tokens)

    def ended(self, job: Job) -> None:
        now_s = time.monotonic()
        self.metrics.ttft.add((job.times[0] if job.times else now_s) - job.arrival_s)
        self.metrics.queue.add((job.start_s or now_s) - job.arrival_s)
        self.metrics.e2e.add(now_s - job.arrival_s)
        for name, count in (
            ("request_success_total", 1),
            ("prompt_tokens_total", job.prompt),
            ("generation_tokens_total", job.produced),
            ("prefix_cache_queries_total", job.prompt),
            ("prefix_cache_hits_total", job.cached),
        ):
            self.metrics.count(name, count)


class Connection(asyncio.Protocol):
    """One client's connection; requests that come while one is served wait for it."""

    def __init__(self, house: House):
        self._house = house
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._url, self._body, self._expects = b"", bytearray(), False
        self._waiting: list[tuple[bytes, bytes, bytes, bool]] = []
        self._job: Job | None = None
        self._asked: Asked | None = None
        self._voice = Voice(0, "", False)
        self._fault: str | None = None
        self._stays = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._job is not None:
            self._house.pace.engine.cancel(self._job)
            self._house.metrics.count("request_aborted_total")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._transport.abort()
            self._house.stop(error.__context__ or error)  # ours, and not what the client sent
        except httptools.HttpParserError:
            self._write(chunks.error(400, "this is not HTTP"))
            self._transport.close()
        except httptools.HttpParserUpgrade:
            self._transport.close()  # to nothing else than HTTP/1.1, in which the request has been answered

    # What httptools calls.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._expects |= name.lower() == b"expect" and value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._expects:  # curl waits a second for this before it sends a large body
            self._write(chunks.CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MOST_BYTES:
            self._write(chunks.error(413, "the body is too large"))
            self._transport.close()

    def on_message_complete(self) -> None:
        request = (self._parser.get_method(), self._url, bytes(self._body), self._parser.should_keep_alive())
        self._url, self._body, self._expects = b"", bytearray(), False
        self._waiting.append(request)
        if len(self._waiting) == 1 and self._job is None:
            self._next()

    # Requests, one after the other.

    def _next(self) -> None:
        while self._waiting and self._job is None and not self._transport.is_closing():
            method, url, body, self._stays = self._waiting.pop(0)
            self._handle(method, url.partition(b"?")[0], body)

    def _handle(self, method: bytes, path: bytes, body: bytes) -> None:
        if path in PATHS and method == b"POST":
            self._complete(body, chat=PATHS[path])
        else:
            told = self._other(path)
            self._reply(chunks.head(told) if method == b"HEAD" else told)

    def _other(self, path: bytes) -> bytes:
        if path in PATHS:
            return chunks.error(405, "use POST")
        if path == b"/metrics":
            return chunks.answer(200, self._house.page(), kind="text/plain; version=0.0.4")
        if path == b"/v1/models":
            return chunks.answer(200, self._house.models())
        if path in (b"/health", b"/ping"):
            return chunks.answer(200, {"status": "ok"})
        return chunks.error(404, "no such path; there are /v1/completions, /v1/chat/completions, /v1/models, /metrics")

    def _complete(self, body: bytes, *, chat: bool) -> None:
        house = self._house
        try:
            parsed = orjson.loads(body)
            longest = house.pace.engine.limits.max_model_len
            asked = read(parsed, chat=chat, model=house.model, longest=longest, rng=house.rng)
        except orjson.JSONDecodeError:
            self._reply(chunks.error(400, "the body is not JSON"))
        except Refused as refused:
            self._reply(chunks.error(*refused.args))
        else:
            self._fault = house.fault(parsed.get("user"))
            if not self._failed_at_once():
                self._serve(asked, chat=chat)

    def _serve(self, asked: Asked, *, chat: bool) -> None:
        self._asked = asked
        self._job = self._house.job(asked)
        self._voice = Voice(self._job.number, self._house.model, chat)
        if asked.stream:
            self._write(chunks.STREAM_HEAD)
        self._house.pace.submit(self._job, self._token)

    def _failed_at_once(self) -> bool:
        """Do what a drawn fault says, where it shows before the first token."""
        wait = f"Retry-After: {RETRY_AFTER_S}\r\n"
        match self._fault:
            case "reset":
                self._transport.abort()
            case "busy":
                self._reply(chunks.error(429, "too many requests, on purpose", wait))
            case "unavailable":
                self._reply(chunks.error(503, "unavailable, on purpose", wait))
            case "failure":
                self._reply(chunks.error(500, "failed on purpose"))
            case "type":
                self._reply(chunks.answer(200, b"<html>on purpose</html>", kind="text/html"))
            case _:
                return False
        return True

    def _token(self, job: Job) -> None:
        """The engine has produced a token."""
        assert self._asked is not None
        if self._asked.stream and not self._spoilt(job):
            first = self._voice.role() if self._voice.chat and job.produced == 1 else b""
            self._write(first + self._voice.token(job.produced - 1, "length" if job.ended else None))
        if job.ended:
            self._end(job)

    def _spoilt(self, job: Job) -> bool:
        """Do what a drawn fault says, at the second token or the only one; whether no token is to be sent."""
        if self._fault in (None, "usage") or job.produced < min(2, job.output):
            return False
        match self._fault:
            case "cut":
                self._transport.close()
            case "malformed":
                self._write(chunks.chunk(b"data: {on purpose\n\n"))
                self._fault = None
            case "error":
                self._write(chunks.event({"error": {"message": "failed on purpose", "code": 500}}))
                self._fault = None
        return True

    def _end(self, job: Job) -> None:
        assert self._asked is not None
        self._job = None
        self._house.ended(job)
        if self._fault in ("stall", "cut"):
            return
        produced = job.produced // 2 if self._fault == "usage" else job.produced
        counted = {
            "prompt_tokens": job.prompt,
            "completion_tokens": produced,
            "total_tokens": job.prompt + produced,
            "prompt_tokens_details": {"cached_tokens": job.cached},
        }
        if self._asked.stream:
            usage = self._voice.usage(counted) if self._asked.usage else b""
            self._reply(usage + chunks.chunk(chunks.DONE) + chunks.END)
        else:
            self._reply(self._voice.document(job.produced, counted))
        self._next()

    def _reply(self, data: bytes) -> None:
        """The last bytes of a reply."""
        self._write(data)
        if not self._stays:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)
