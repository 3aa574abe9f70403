"""A server that does to each request what a test says, and a sender in this process."""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from replay.http.bodies import Bodies, Recipe
from replay.http.deadlines import Timeouts
from replay.http.endpoint import Endpoint
from replay.http.pool import Dial
from replay.http.rows import Row
from replay.http.sender import Route, Sender

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


@dataclass
class Asked:
    """A request as the server read it."""

    number: int  # of all, from 0
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    writer: asyncio.StreamWriter

    @property
    def tag(self) -> int:
        """The request's id in the trace; -1 for the probe's."""
        user = str(self.body.get("user", ""))
        return int(user[3:]) if user.startswith("REQ") else -1

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Cut the connection so that the client sees a reset."""
        self.writer.transport.abort()

    async def stream(self, *events: Any, head: bytes = HEAD, end: bool = True, gap_s: float = 0.0) -> None:
        """Send events (JSON values or raw bytes) as chunks, then [DONE]."""
        await self.say(head + b"\r\n")
        for event in events:
            await self.say(chunk(event))
            await asyncio.sleep(gap_s)
        if end:
            await self.say(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def answer(self, code: int, body: Any = None, headers: str = "") -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "" if "content-type" in headers.lower() else "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 {code} X\r\n{kind}{headers}Content-Length: {len(text)}\r\n\r\n"
        await self.say(head.encode() + text)


Script = Callable[[Asked], Awaitable[None]]


def chunk(event: Any) -> bytes:
    data = event if isinstance(event, bytes) else b"data: " + orjson.dumps(event) + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def text(piece: str = " tok", finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": piece, "finish_reason": finish, **more}]}


def delta(finish: str | None = None, **content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content, "finish_reason": finish}]}


def usage(prompt: int, output: int, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output, **more}}


async def fine(asked: Asked) -> None:
    """Answer as a good server does; each unit of the prompt counts as a token."""
    if asked.method == "GET":
        await asked.answer(200, {"data": [{"id": "served", "owned_by": "scripted", "max_model_len": 4096}]})
        return
    prompt = asked.body.get("prompt", "")
    tokens = len(prompt) if isinstance(prompt, list) else len(prompt.split())
    count = asked.body.get("max_tokens", 3)
    await asked.stream(*[text() for _ in range(count - 1)], text(finish="length"), usage(tokens, count))


@dataclass
class Server:
    """A scripted server on a thread of its own; `asked` is what it was asked, in order."""

    script: Script
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
                method, path, _ = first.split()
                asked = Asked(len(self.asked), method, path, headers, body, number, writer)
                self.asked.append(asked)
                await self.script(asked)
                if headers.get("connection") == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if asyncio.current_task().cancelling() else writer.close()


@contextmanager
def serving(script: Script, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """The server for as long as the block runs."""
    made, up, loop = Server(script), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", port, ssl=tls)
        made.port = server.sockets[0].getsockname()[1]
        up.set()
        await stop.wait()
        server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert up.wait(5)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def rows(count: int = 1, gap_s: float = 0.0, **more: Any) -> list[Row]:
    return [Row(n, n * gap_s, 12, 3, **more) for n in range(count)]


@dataclass
class Sent:
    """What a sender wrote down."""

    lines: list[dict[str, Any]]
    sender: Sender

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return sorted((line for line in self.lines if "event" not in line), key=lambda line: line["id"])

    @property
    def events(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "event" in line]

    @property
    def only(self) -> dict[str, Any]:
        (line,) = self.outcomes
        return line


def send(port: int, plan: Iterable[Row], *, api: str = "completions", stop_after_s: float | None = None,
         **settings: Any) -> Sent:  # fmt: skip
    """Send `plan` to a port of this machine; what the sender wrote down."""
    limits = settings.pop("limits", Timeouts(connect=10.0, first=10.0, gap=10.0, total=20.0))
    turns = settings.pop("turns", [])
    recipe = settings.pop("recipe", Recipe(api=api))
    loop = asyncio.new_event_loop()
    lines: list[dict[str, Any]] = []
    target = Endpoint("http", "127.0.0.1", port, "")
    dial = Dial((2, ("127.0.0.1", port)), "127.0.0.1", None, limits.connect)
    bodies = Bodies(target, "served", recipe, close=not settings.get("reuse", True))
    sender = Sender(
        loop, [Route(dial, bodies)], iter(plan), turns=lambda at: [turns[n] for n in at], write=lines.extend,
        limits=limits, **settings,
    )  # fmt: skip

    def broken(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        sender.done.set_exception(context.get("exception") or RuntimeError(str(context)))

    async def run() -> None:
        sender.prepare()
        sender.start(loop.time() + 0.02, 0.0)
        if stop_after_s is not None:
            loop.call_later(stop_after_s, sender.stop, 0.2)
        async with asyncio.timeout(40):
            await sender.done

    loop.set_exception_handler(broken)
    try:
        loop.run_until_complete(run())
    finally:
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
    return Sent(lines, sender)
