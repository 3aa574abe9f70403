"""Whatever the other side does, each request ends in exactly one outcome that says what happened."""

import asyncio
import socket
import threading
import time

import pytest

from replay.http.breaker import Breaker
from replay.http.connection import Connection
from replay.http.deadlines import Timeouts
from replay.http.exchange import Exchange
from tests.replay.http.scripted import HEAD, Asked, chunk, fine, rows, send, serving, text, usage


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def within_headers(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\nContent-Ty")
    asked.writer.close()


async def before_headers(asked: Asked) -> None:
    asked.reset()


async def within_body(asked: Asked) -> None:
    await asked.stream(text(), text(), end=False)
    asked.writer.close()


async def no_end(asked: Asked) -> None:
    await asked.stream(text(), text(), usage(12, 2), end=False)
    await asked.say(b"0\r\n\r\n")


async def malformed(asked: Asked) -> None:
    await asked.stream(text(), b"data: {not json\n\n", text(finish="length"), usage(12, 3))


async def error_event(asked: Asked) -> None:
    await asked.stream(text(), {"error": {"message": "CUDA out of memory", "code": 500}})


async def error_inside(asked: Asked) -> None:
    await asked.answer(200, {"error": {"message": "no such adapter"}})


async def html(asked: Asked) -> None:
    await asked.answer(200, b"<html>login</html>", "Content-Type: text/html\r\n")


async def not_http(asked: Asked) -> None:
    await asked.say(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def redirect(asked: Asked) -> None:
    await asked.answer(307, b"", "Location: http://elsewhere.example/v1/completions\r\n")


async def too_long(asked: Asked) -> None:
    await asked.answer(400, {"error": {"message": "maximum context length is 4096"}})


async def switched(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")


async def after_100(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 100 Continue\r\n\r\n")
    asked.writer.close()


async def zipped(asked: Asked) -> None:
    await asked.stream(b"\x1f\x8b", head=HEAD + b"Content-Encoding: gzip\r\n")


async def shapeless(asked: Asked) -> None:
    await asked.stream(text(), {"choices": ["three"]})


async def aborted(asked: Asked) -> None:
    await asked.stream(text(), text(finish="abort"), usage(12, 2))


async def hollow(asked: Asked) -> None:
    await asked.stream()


async def named_error(asked: Asked) -> None:
    await asked.stream(text(), b'event: error\ndata: {"message": "out of blocks", "code": 500}\n\n')


async def broken(asked: Asked) -> None:
    await asked.answer(500, b"Internal Server Error", "Content-Type: text/plain\r\n")


async def detail(asked: Asked) -> None:
    await asked.answer(422, {"detail": [{"msg": "extra fields not permitted"}]})


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        (before_headers, "error", "before headers"),
        (within_headers, "error", "connection closed within headers"),
        (within_body, "error", "connection closed within the body"),
        (no_end, "error", "truncated"),
        (malformed, "error", "malformed event: {not json"),
        (error_event, "error", "error in the stream: CUDA out of memory"),
        (error_inside, "error", "HTTP 200 with an error inside: no such adapter"),
        (html, "error", "content type 'text/html' instead of text/event-stream"),
        (not_http, "error", "not HTTP"),
        (switched, "error", "not HTTP: the server switched"),
        (after_100, "error", "connection closed within headers"),
        (zipped, "error", "content encoding 'gzip', which nobody asked for"),
        (shapeless, "error", 'malformed event: {"choices":["three"]}'),
        (aborted, "error", "finish_reason 'abort'"),
        (hollow, "error", "empty: no choices before [DONE]"),
        (named_error, "error", "error in the stream: out of blocks"),
        (redirect, "error", "a redirect to http://elsewhere.example/v1/completions: refused"),
        (too_long, "rejected", "HTTP 400: maximum context length is 4096"),
        (detail, "rejected", "HTTP 422: [{"),
        (broken, "error", "HTTP 500: Internal Server Error"),
    ],
)
@pytest.mark.parametrize("reuse", [True, False])
def test_a_fault_is_one_outcome_without_another_attempt(script, status, error, reuse):
    with serving(script) as server:
        sent = send(server.port, rows(2), reuse=reuse)
    assert [line["status"] for line in sent.outcomes] == [status, status]
    assert [error in line["error"] for line in sent.outcomes] == [True, True], sent.outcomes
    assert [line["attempts"] for line in sent.outcomes] == [1, 1]
    assert [asked.tag for asked in server.asked] == [0, 1]


def test_a_reply_cut_short_keeps_the_times_of_what_came():
    with serving(within_body) as server:
        line = send(server.port, rows()).only
    assert line["first_token_s"] > line["sent_s"]
    assert line["chunks"] == 2
    assert line["output_tokens"] is None


def test_a_refused_connection_is_tried_again_and_counted():
    port = closed_port()
    sent = send(port, rows(), retries=2)
    assert (sent.only["status"], sent.only["attempts"], sent.only["sent_s"]) == ("error", 3, None)
    assert "refused" in sent.only["error"]
    assert [event["event"] for event in sent.events] == ["retry", "retry"]


def test_a_date_that_no_calendar_has_is_waited_for_like_none():
    async def busy(asked: Asked) -> None:
        await asked.answer(429, {"error": "busy"}, "Retry-After: Wed, 21 Oct 99999999999999 07:28:00 GMT\r\n")

    with serving(busy) as server:
        sent = send(server.port, rows(), retries=1)
    assert (sent.only["status"], sent.only["attempts"]) == ("rejected", 2)


def test_what_fails_here_is_not_laid_to_the_server():
    def full(connection: Connection, exchange: Exchange | None) -> None:
        raise OSError("no space left on device")

    connection = Connection(None, full)
    connection.exchange = Exchange(rows()[0], b"", 0.0)
    with pytest.raises(OSError, match="no space left"):
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(code):
    async def busy_once(asked: Asked) -> None:
        if asked.number == 0:
            await asked.answer(code, {"error": "busy"}, "Retry-After: 0.3\r\n")
        else:
            await fine(asked)

    with serving(busy_once) as server:
        sent = send(server.port, rows())
    assert (sent.only["status"], sent.only["attempts"], sent.only["arrival_s"]) == ("ok", 2, 0.0)
    assert sent.only["sent_s"] == pytest.approx(0.3, abs=0.1)
    assert f"HTTP {code}; again after 0.3 s" in sent.events[0]["detail"]


def test_a_server_that_stays_busy_rejects():
    async def busy(asked: Asked) -> None:
        await asked.answer(429, {"error": "rate limit"}, "Retry-After: 0\r\n")

    with serving(busy) as server:
        sent = send(server.port, rows(), retries=3)
    assert (sent.only["status"], sent.only["attempts"]) == ("rejected", 4)
    assert sent.only["error"] == "HTTP 429: rate limit"


def test_a_wait_longer_than_half_a_minute_is_not_waited_for():
    async def busy(asked: Asked) -> None:
        await asked.answer(503, {"error": "later"}, "Retry-After: 3600\r\n")

    with serving(busy) as server:
        sent = send(server.port, rows())
    assert (sent.only["status"], sent.only["attempts"]) == ("rejected", 1)


async def never(asked: Asked) -> None:
    await asyncio.sleep(30)


async def stalls(asked: Asked) -> None:
    await asked.stream(text(), end=False)
    await asyncio.sleep(30)


async def drips(asked: Asked) -> None:
    await asked.stream(*[text()] * 100, gap_s=0.05)


@pytest.mark.parametrize(
    ("script", "limits", "error"),
    [
        (never, Timeouts(first=0.3), "first token: nothing came for 0.3 s"),
        (stalls, Timeouts(gap=0.3), "gap: nothing came for 0.3 s"),
        (drips, Timeouts(gap=0.3, total=0.4), "total: not ended 0.4 s after it was sent"),
    ],
)
def test_a_stall_ends_at_its_limit(script, limits, error):
    with serving(script) as server:
        began = time.monotonic()
        line = send(server.port, rows(), limits=limits).only
    assert (line["status"], line["error"], line["attempts"]) == ("timeout", error, 1)
    assert 0.3 <= time.monotonic() - began < 1.5


def test_a_connection_that_never_opens_times_out():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        line = send(port, rows(), limits=Timeouts(connect=0.3)).only
        for other in others:
            other.close()
    assert (line["status"], line["error"]) == ("timeout", "connect: no connection within 0.3 s")


def test_a_dead_server_is_left_alone_and_tried_now_and_then():
    sent = send(closed_port(), rows(60, gap_s=0.02), retries=0, breaker=Breaker(failures=5, every_s=0.4))
    by_status = {s: [x for x in sent.outcomes if x["status"] == s] for s in ("error", "cancelled")}
    assert len(by_status["error"]) + len(by_status["cancelled"]) == 60
    assert 5 <= len(by_status["error"]) <= 30  # those that a busy machine lets go before the first has failed, too
    assert "not sent" in by_status["cancelled"][0]["error"]
    assert by_status["cancelled"][0]["attempts"] == 0
    assert [event["detail"] for event in sent.events] == ["open"]


def test_a_server_that_comes_back_is_used_again():
    port = closed_port()
    found, over = [], threading.Event()

    def later() -> None:
        time.sleep(0.5)
        with serving(fine, port) as server:
            over.wait(60)
            found.append(len(server.asked))

    thread = threading.Thread(target=later)
    thread.start()
    sent = send(port, rows(200, gap_s=0.01), retries=0, breaker=Breaker(failures=5, every_s=0.1))
    over.set()
    thread.join()
    statuses = [line["status"] for line in sent.outcomes]
    assert len(statuses) == 200
    assert statuses[0] == "error"
    assert statuses[-1] == "ok"
    assert statuses.count("ok") == found[0]
    assert [event["detail"] for event in sent.events] == ["open", "closed"]


def test_what_the_server_says_back_of_a_secret_is_not_written():
    async def echo(asked: Asked) -> None:
        await asked.answer(401, {"error": "bad token sk-very-secret for you"})

    with serving(echo) as server:
        line = send(server.port, rows(), hidden=["sk-very-secret"]).only
    assert line["error"] == "HTTP 401: bad token [secret] for you"


def test_a_body_that_ends_with_the_connection_is_whole():
    async def old_fashioned(asked: Asked) -> None:
        await asked.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for event in (text(), text(finish="length"), usage(12, 2)):
            await asked.say(chunk(event).split(b"\r\n", 1)[1][:-2])
        await asked.say(b"data: [DONE]\n\n")
        asked.writer.close()

    with serving(old_fashioned) as server:
        line = send(server.port, rows()).only
    assert (line["status"], line["output_tokens"]) == ("ok", 2)


def test_what_nobody_asked_for_closes_the_connection_and_harms_no_request():
    async def chatty(asked: Asked) -> None:
        await asked.stream(text(finish="length"), usage(12, 1), head=HEAD)
        await asked.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    with serving(chatty) as server:
        sent = send(server.port, rows(4, gap_s=0.1))
    assert [line["status"] for line in sent.outcomes] == ["ok"] * 4
    assert server.connections >= 4
