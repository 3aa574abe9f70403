"""What is made before anything is sent: prompts, addresses, headers, plans, and the alarm that says when."""

import asyncio
import json
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.http import pacing
from replay.http.bodies import Bodies, Recipe
from replay.http.deadlines import Timeouts, timeouts
from replay.http.endpoint import endpoint, redacted, secret_headers, secrets
from replay.http.exchange import Exchange
from replay.http.journal import Journal, Reader, in_use
from replay.http.plan import Waits, roots, rounds, waits, write_plans
from replay.http.plan_file import Plan
from replay.http.prompts import Units
from replay.http.retrying import retry_after_s
from replay.http.rows import Row
from replay.http.sse import shown
from toolkit.errors import RunFailure, SettingFailure
from toolkit.schema import TRACE, conform

ALPHABETS = [Units(), Units(1000, 9999), Units(100, 350), Units(10, 99)]


def units_of(made: bytes, units: Units) -> list[bytes]:
    assert len(made) % units.width == 0
    return [made[i : i + units.width] for i in range(0, len(made), units.width)]


@given(
    st.sampled_from(ALPHABETS),
    st.integers(1, 40_000),
    st.lists(st.integers(0, 2**64 - 1), max_size=5),
    st.integers(1, 64),
    st.integers(0, 2**64 - 1),
)
@settings(max_examples=80, deadline=None)
def test_a_prompt_has_exactly_its_units_and_its_blocks(units, count, blocks, block, number):
    made = units_of(units.prompt(number, count, blocks, block), units)
    assert len(made) == count
    assert set(made) <= set(units.alphabet)
    for n, value in enumerate(blocks[: count // block]):
        assert b"".join(made[n * block : (n + 1) * block]) == units.run(value, block)


@pytest.mark.parametrize("units", ALPHABETS)
def test_other_numbers_begin_otherwise(units):
    assert len({units.run(n, units.spelt) for n in range(3000)}) == 3000


def test_a_last_block_that_is_only_partly_filled_is_shared_too():
    units = Units()
    one, other = (units.prompt(number, 25, [1, 2], 16) for number in (7, 8))
    assert one == other


def test_a_body_is_json_of_the_length_it_says():
    target = endpoint("http://h:1/base/v1/")
    for recipe in (Recipe(), Recipe(first_id=1000, last_id=9999), Recipe(api="chat", extra={"top_k": 1})):
        data = Bodies(target, 'mo"del', recipe, close=True).request(Row(3, 0.0, 300, 7, priority=2))
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == f"POST /base/v1/{'chat/completions' if recipe.api == 'chat' else 'completions'} HTTP/1.1"
        assert f"Content-Length: {len(body)}" in lines
        assert "Connection: close" in lines
        parsed = json.loads(body)
        assert (parsed["model"], parsed["max_tokens"], parsed["priority"], parsed["stream"]) == ('mo"del', 7, 2, True)


def test_another_run_shares_no_prompt_and_no_block():
    def prompt(seed: int, n: int = 0) -> list[int]:
        recipe = Recipe(first_id=1000, last_id=9999, seed=seed)
        data = Bodies(endpoint("h"), "m", recipe, close=False).request(Row(n, 0.0, 40, 1, blocks=[7]))
        return json.loads(data.partition(b"\r\n\r\n")[2])["prompt"]

    assert prompt(1)[:16] == prompt(1, 5)[:16]
    assert prompt(1)[:16] != prompt(2)[:16]
    assert prompt(1)[16:] != prompt(1, 5)[16:]
    assert prompt(1)[16:] != prompt(2)[16:]


def test_the_calibration_is_undone():
    bodies = Bodies(endpoint("h"), "m", Recipe(tokens_per_unit=1.5, overhead_tokens=9.0), close=False)
    assert [bodies.units(Row(0, 0.0, tokens, 1)) for tokens in (9, 12, 309, None)] == [1, 2, 200, 1]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://h", "http://h"),
        ("https://h:443/v1", "https://h"),
        ("http://[::1]:80/x/", "http://[::1]/x"),
        ("http://h:0", "http://h:0"),
    ],
)
def test_urls(text, url):
    assert endpoint(text).url == url


@pytest.mark.parametrize(
    "text", ["http://h:99999", "http://", "http://a..b", "http://h?q=1", "http://h/a b", "file:///etc"]
)
def test_urls_that_will_not_do(text):
    with pytest.raises(SettingFailure):
        endpoint(text)


def test_secrets_come_from_the_environment_and_are_hidden(monkeypatch):
    monkeypatch.setenv("TRACE_API_KEY", "token-1234567")
    monkeypatch.setenv("TRACE_HEADERS", "X-A: one\n\nX-B: hidden value\n")
    assert secret_headers() == {"Authorization": "Bearer token-1234567", "X-A": "one", "X-B": "hidden value"}
    assert (
        redacted("a token-1234567, Bearer token-1234567; hidden value", secrets()) == "a [secret], [secret]; [secret]"
    )
    assert b"Authorization: Bearer token-1234567\r\n" in endpoint("h").head("GET", "/")


def test_a_url_with_a_query_is_not_said_back():
    with pytest.raises(SettingFailure, match=r"put a key in TRACE_API_KEY") as failure:
        endpoint("http://h?key=do-not-show")
    assert "do-not-show" not in str(failure.value)


@settings(max_examples=200)
@given(before=st.integers(100, 210), secret=st.from_regex(r"[A-Z0-9]{6,120}", fullmatch=True))
def test_a_secret_that_is_cut_in_the_middle_is_hidden(before, secret):
    found = redacted(shown("." * before + secret + "."), [secret])
    assert secret[:4] not in (found or "")


def test_what_a_header_gives_a_name_is_a_secret_by_itself(monkeypatch):
    monkeypatch.setenv("TRACE_HEADERS", "Cookie: session=0123456789abcdef; team=blue-team\nX-Key: Key v=abcdef==")
    said = "no session 0123456789abcdef of blue-team (abcdef==)"
    assert redacted(said, secrets()) == "no session [secret] of [secret] ([secret])"


@pytest.mark.parametrize(("name", "value"), [("Authorization", "Bearer"), ("authorization", "Basic")])
def test_a_header_is_sent_once_however_it_is_spelt(monkeypatch, name, value):
    monkeypatch.setenv("TRACE_API_KEY", "token-1234567")
    monkeypatch.setenv("TRACE_HEADERS", f"{name}: {value}")
    assert secret_headers() == {name: value}


@pytest.mark.parametrize(("text", "wait"), [("", 0.5), ("3", 3.0), ("-1", 0.0), ("31", None), ("nonsense", 0.5)])
def test_retry_after(text, wait):
    exchange = Exchange(Row(0, 0.0, 1, 1), b"", 0.0)
    exchange.attempts, exchange.status_code, exchange.retry_after = 2, 503, text
    assert retry_after_s(exchange) == wait


def test_limits_are_read():
    assert timeouts("first=3, gap=0.5") == Timeouts(first=3.0, gap=0.5)
    for text in ("first=0", "first=x", "first=nan", "first=inf", "speed=3"):
        with pytest.raises(SettingFailure):
            timeouts(text)


def test_a_journal_is_read_as_it_grows_and_a_torn_line_is_left(tmp_path):
    path = tmp_path / "j.jsonl"
    journal, reader = Journal(path), Reader(path)
    assert list(reader.lines()) == []
    journal.write([{"id": 1}, {"id": 2}])
    assert in_use(path)
    with pytest.raises(RunFailure, match="another replay still writes"):
        Journal(path)
    with path.open("ab") as file:
        file.write(b'{"id": 3, "st')
    assert [line["id"] for line in reader.lines()] == [1, 2]
    journal.close()
    assert not in_use(path)
    with path.open("ab") as file:
        file.write(b'atus": "ok"}\n')
    assert [line["id"] for line in reader.lines()] == [3]


def test_chains_of_turns():
    parent = np.array([-1, 0, 1, -1, 3, 2])
    assert roots(parent).tolist() == [0, 0, 0, 3, 3, 0]
    assert [r.tolist() for r in rounds(parent)] == [[5], [2], [1, 4]]


def chained() -> pl.DataFrame:
    rows = [
        {"arrival_s": 0.0, "session_id": "a"},
        {"arrival_s": 1.0, "session_id": "b"},
        {"arrival_s": None, "session_id": "a", "parent_id": 0, "think_s": 2.0},
        {"arrival_s": None, "session_id": "a", "parent_id": 2, "think_s": 3.0},
    ]
    frame = pl.DataFrame(rows).with_columns(prompt_tokens=5, output_tokens=2).with_row_index("request_id")
    return conform(frame, TRACE, source="test")


def test_a_plan_has_each_request_once_and_finds_the_turns(tmp_path):
    trace = chained()
    write_plans(tmp_path, trace, waits(trace, closed=True), workers=1, route=np.zeros(4, np.int64))
    plan = Plan(tmp_path / "plan-0.jsonl", tmp_path / "turns-0.jsonl")
    first, other = plan.rows()
    (second,) = plan.turns(first.turns)
    (third,) = plan.turns(second.turns)
    assert [r.id for r in (first, other, second, third)] == [0, 1, 2, 3]
    assert (second.arrival_s, second.think_s, third.think_s) == (None, 2.0, 3.0)


def test_a_resumed_plan_goes_on_after_what_was_answered(tmp_path):
    trace = chained()
    columns = {"rank": np.array([0.0, 1.0, 2.0, 3.0]), "priority": np.array([0, 1, 2, 3])}
    begins_s = write_plans(
        tmp_path, trace, waits(trace, closed=True), workers=2, route=np.array([0, 1, 0, 1]), columns=columns,
        answered={0: 0.5, 1: 1.5},
    )  # fmt: skip
    assert begins_s == 2.5
    plan = Plan(tmp_path / "plan-0.jsonl", tmp_path / "turns-0.jsonl")
    (row,) = plan.rows()
    assert (row.id, row.arrival_s, row.rank, row.priority) == (2, 2.5, 2.0, 2)
    assert [(r.id, r.route) for r in plan.turns(row.turns)] == [(3, 1)]
    assert list(Plan(tmp_path / "plan-1.jsonl", tmp_path / "turns-1.jsonl").rows()) == []


def test_open_sessions_wait_for_nobody():
    assert Waits(*vars(waits(chained(), closed=False)).values()).by_clock.all()


@pytest.mark.parametrize("kind", [pacing.alarm, pacing.LoopTimer])
def test_an_alarm_rings_at_its_instant_and_only_at_the_last_one_set(kind):
    loop = asyncio.new_event_loop()
    rang: list[float] = []
    made = kind(loop, lambda: rang.append(time.monotonic()))
    now_s = time.monotonic()
    made.set(now_s + 0.01)
    made.set(pacing.NEVER_S)
    made.set(now_s + 0.05)
    loop.run_until_complete(asyncio.sleep(0.15))
    (first_s,) = rang
    assert first_s > now_s + 0.049
    made.set(now_s)  # past: at once
    loop.run_until_complete(asyncio.sleep(0.05))
    assert len(rang) == 2
    made.close()
    loop.close()
