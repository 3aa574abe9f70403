"""Server-sent events as the standard has them, and as nobody should send them."""

import json

import pytest

from replay.http import sse

END = b"data: [DONE]\n\n"


def event(**body) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


LAST = event(choices=[{"text": "x", "finish_reason": "length"}])


def read(stream: bytes, size: int) -> sse.Reply:
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    return sse.read(parts, [float(n) for n in range(len(parts))])


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "stream",
    [
        LAST + END,
        (LAST + END).replace(b"\n", b"\r\n"),
        (LAST + END).replace(b"data: ", b"data:"),
        b"\xef\xbb\xbf" + LAST + END,
        b": ping\n\n:\n\nevent: completion\nid: 7\nretry: 5\n" + LAST + b": ping\n\n" + END,
        b"data:\n\n" + LAST + END,
        LAST.replace(b", ", b",\ndata: ") + END,
        LAST + END[:-1],
    ],
)
def test_an_event_is_its_data_lines_however_they_come(stream, size):
    reply = read(stream, size)
    assert (reply.status, reply.error, reply.chunks) == ("ok", None, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": ["x"]},
        {"choices": 5},
        {"choices": {"0": "x"}},
        {"choices": [None]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"text": "x", "token_ids": 5}]},
        {"usage": 5},
        {"usage": ["x"]},
    ],
)
def test_an_event_of_another_shape_is_malformed(body):
    reply = read(event(**body) + LAST + END, 10_000)
    assert reply.status == "error"
    assert reply.error.startswith("malformed event: ")


@pytest.mark.parametrize("count", ["7", 2.5, -3, True, 2**40, [1]])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_usage_that_is_no_count_disagrees_and_counts_nothing(name, count):
    usage = {"prompt_tokens": 12, "completion_tokens": 1, name: count}
    reply = read(LAST + event(choices=[], usage=usage) + END, 10_000)
    assert (reply.status, reply.prompt_tokens, reply.output_tokens) == ("ok", None, None)
    assert reply.disagrees == "usage holds what is no number of tokens"


def test_a_long_line_in_small_pieces_takes_no_square_of_its_length():
    reply = read(event(choices=[{"text": "x" * 4_000_000, "finish_reason": "length"}]) + END, 100)
    assert (reply.status, reply.chunks) == ("ok", 1)
