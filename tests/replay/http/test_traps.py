"""What engines taught those who measured them, each as a test."""

import asyncio

import pytest

from replay.http.bodies import Recipe
from replay.http.deadlines import Timeouts
from tests.replay.http.scripted import HEAD, Asked, chunk, delta, fine, rows, send, serving, text, usage


def outcome(*events, api="completions", **more):
    async def script(asked: Asked) -> None:
        await asked.stream(*events, gap_s=0.03)

    with serving(script) as server:
        return send(server.port, rows(), api=api, **more).only


def test_the_first_token_is_no_mere_announcement_of_the_role():
    line = outcome(
        delta(role="assistant", content=""), delta(content="a"), delta("length", content="b"), usage(12, 2), api="chat"
    )
    assert line["first_token_s"] - line["first_byte_s"] == pytest.approx(0.03, abs=0.02)
    assert line["chunks"] == 2


def test_a_first_chunk_with_role_and_text_is_a_token():
    line = outcome(delta(role="assistant", content=" tok"), delta("length", content="b"), usage(12, 2), api="chat")
    assert line["first_token_s"] - line["first_byte_s"] < 0.02


def test_empty_text_is_a_token_that_does_not_show():
    line = outcome(text(""), text(""), text("", "length"), usage(12, 3))
    assert line["first_token_s"] - line["first_byte_s"] < 0.02
    assert (line["status"], line["output_tokens"]) == ("ok", 3)


def test_a_chunk_is_not_a_token():
    line = outcome(text("four tokens in one"), text(" and more", "length"), usage(12, 12))
    assert (line["output_tokens"], line["chunks"], line["disagrees"]) == (12, 2, None)


def test_tokens_that_come_in_no_chunk_come_with_the_end():
    line = outcome(text("", "stop"), usage(12, 4))
    assert (line["status"], line["output_tokens"], line["chunks"]) == ("ok", 4, 0)
    assert line["first_token_s"] == line["finish_s"] is not None


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_choice_beside_the_usage_is_no_token(api):
    """As LiteLLM sends them: no finish_reason until the end, and an empty choice in the chunk with `usage`."""
    said = {"delta": {"content": "a"}} if api == "chat" else {"text": "a"}
    nothing = {"delta": {}} if api == "chat" else {}
    counted = {"prompt_tokens": 12, "completion_tokens": 3}
    end, last = {**nothing, "finish_reason": "length"}, {"choices": [nothing or {"index": 0}], "usage": counted}
    line = outcome(*[{"choices": [said]}] * 3, {"choices": [end]}, last, api=api)
    assert (line["status"], line["output_tokens"], line["chunks"], line["disagrees"]) == ("ok", 3, 3, None)
    assert line["finish_s"] - line["first_token_s"] == pytest.approx(0.06, abs=0.02)


def test_without_usage_token_ids_count_and_chunks_never_do():
    assert outcome(text(token_ids=[1, 2]), text(finish="length", token_ids=[3]))["output_tokens"] == 3
    assert outcome(text(), text(finish="length"))["output_tokens"] is None


def test_the_same_token_again_is_another_token():
    line = outcome(*[text(token_ids=[7])] * 4, text(finish="length", token_ids=[7]))
    assert (line["output_tokens"], line["chunks"], line["disagrees"]) == (5, 5, None)


def test_a_usage_that_disagrees_is_said():
    assert "3 token ids" in outcome(text(token_ids=[1, 2, 3], finish="length"), usage(12, 5))["disagrees"]
    assert "6 chunks" in outcome(*[text()] * 5, text(finish="length"), usage(12, 2))["disagrees"]


def test_reasoning_is_output():
    line = outcome(
        delta(role="assistant", content=""), delta(reasoning_content="hm"), delta("stop", content="x"), usage(12, 2),
        api="chat",
    )  # fmt: skip
    assert line["first_token_s"] - line["first_byte_s"] < 0.05
    assert line["chunks"] == 2


def test_a_usage_within_the_last_chunk_counts():
    line = outcome(text(), text(finish="length") | {"usage": {"prompt_tokens": 12, "completion_tokens": 2}})
    assert (line["prompt_tokens"], line["output_tokens"]) == (12, 2)


def test_cached_tokens_are_known_where_the_server_tells():
    line = outcome(text(finish="length"), usage(12, 1, prompt_tokens_details={"cached_tokens": 8}))
    assert line["cached_tokens"] == 8


def test_events_may_be_cut_anywhere():
    whole = b"".join(b"data: " + e + b"\n\n" for e in (b'{"choices":[{"text":"a","finish_reason":null}]}',) * 3)
    whole += (
        b'data: {"choices":[{"text":"","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":3}}\n\n'
    )

    async def script(asked: Asked) -> None:
        cut = 7 + 11 * asked.tag
        await asked.stream(*[whole[i : i + cut] for i in range(0, len(whole), cut)])

    with serving(script) as server:
        sent = send(server.port, rows(8))
    assert [(line["status"], line["chunks"], line["output_tokens"]) for line in sent.outcomes] == [("ok", 3, 3)] * 8


def test_chunks_that_only_look_alike_are_read():
    tricky = text('" tok","finish_reason":null')
    line = outcome(text(), tricky, {"choices": [{"index": 0, "text": " tok", "finish_reason": "stop"}]}, usage(12, 3))
    assert (line["status"], line["chunks"], line["output_tokens"]) == ("ok", 3, 3)


def test_the_connection_is_read_to_the_end_after_done():
    async def late_end(asked: Asked) -> None:
        await asked.stream(text(finish="length"), usage(12, 1), end=False)
        await asked.say(chunk(b"data: [DONE]\n\n"))
        await asyncio.sleep(0.4)
        await asked.say(b"0\r\n\r\n")

    with serving(late_end) as server:
        sent = send(server.port, rows(2, gap_s=1.0))
    assert [line["status"] for line in sent.outcomes] == ["ok"] * 2
    assert sent.outcomes[0]["finish_s"] < 0.4
    assert len({asked.connection for asked in server.asked}) == 1


@pytest.mark.parametrize("hangs_up", [True, False])
def test_done_is_the_end_whatever_becomes_of_the_connection(hangs_up):
    """As the API's own clients have it; some servers never end the body."""

    async def no_last_chunk(asked: Asked) -> None:
        await asked.stream(text(), text(finish="length"), usage(12, 2), end=False)
        await asked.say(chunk(b"data: [DONE]\n\n"))
        await asyncio.sleep(0 if hangs_up else 30)
        asked.writer.close()

    with serving(no_last_chunk) as server:
        sent = send(server.port, rows(2), limits=Timeouts(gap=0.3))
    assert [(line["status"], line["error"], line["output_tokens"]) for line in sent.outcomes] == [("ok", None, 2)] * 2
    assert server.connections == 2


def test_a_server_that_hangs_up_after_each_reply_loses_no_pooled_request():
    """The keep-alive race: a connection that the server has closed is not used."""

    async def hangs_up(asked: Asked) -> None:
        await fine(asked)
        asked.writer.close()

    with serving(hangs_up) as server:
        sent = send(server.port, rows(40, gap_s=0.01))
    assert [line["status"] for line in sent.outcomes] == ["ok"] * 40
    assert all(line["attempts"] == 1 for line in sent.outcomes)


def test_a_server_says_how_many_requests_a_connection_serves():
    async def five(asked: Asked) -> None:
        await asked.stream(text(finish="length"), usage(12, 1), head=HEAD + b"Keep-Alive: timeout=5, max=4\r\n")

    with serving(five) as server:
        send(server.port, rows(40, gap_s=0.02))
    served = [[a.tag for a in server.asked if a.connection == c] for c in range(server.connections)]
    assert max(len(tags) for tags in served) == 4


def test_each_request_may_have_a_connection_of_its_own():
    with serving(fine) as server:
        sent = send(server.port, rows(10, gap_s=0.02), reuse=False)
    assert [line["status"] for line in sent.outcomes] == ["ok"] * 10
    assert len({asked.connection for asked in server.asked}) == 10
    assert {asked.headers["connection"] for asked in server.asked} == {"close"}


def test_no_two_prompts_begin_alike():
    with serving(fine) as server:
        send(server.port, rows(50), recipe=Recipe(first_id=1000, last_id=9999))
        send(server.port, rows(50))
    ids = [tuple(a.body["prompt"][:8]) for a in server.asked if isinstance(a.body["prompt"], list)]
    words = [a.body["prompt"][:40] for a in server.asked if isinstance(a.body["prompt"], str)]
    assert len(set(ids)) == len(ids) == 50
    assert len(set(words)) == len(words) == 50
