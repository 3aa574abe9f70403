"""When requests are sent, in which order, and what is written down of them."""

import asyncio
from typing import Any

import pytest

from replay.http import pool
from replay.http.connection import Connection
from replay.http.pool import connect
from replay.http.rows import Row
from tests.replay.http.scripted import Asked, fine, rows, send, serving, text, usage


def test_requests_are_sent_at_their_instants_whatever_the_server_does():
    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.3)
        await fine(asked)

    with serving(slow) as server:
        sent = send(server.port, rows(30, gap_s=0.01))
    lag = sorted(line["sent_s"] - line["arrival_s"] for line in sent.outcomes)
    assert [line["arrival_s"] for line in sent.outcomes] == pytest.approx([n * 0.01 for n in range(30)])
    assert lag[0] >= 0
    assert lag[15] < 0.01
    assert all(line["first_token_s"] - line["sent_s"] > 0.29 for line in sent.outcomes)


def test_times_are_in_order():
    with serving(fine) as server:
        for line in send(server.port, rows(20, gap_s=0.002)).outcomes:
            names = ("arrival_s", "due_s", "sent_s", "first_byte_s", "first_token_s", "finish_s")
            times = [line[name] for name in names]
            assert times == sorted(times)


def test_only_so_many_are_let_in_and_the_scheduler_says_who():
    plan = [Row(n, 0.0, 12, 3, rank=-float(n)) for n in range(6)]

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.05)
        await fine(asked)

    with serving(slow) as server:
        sent = send(server.port, plan, most=1)
    assert [asked.tag for asked in server.asked] == [0, 5, 4, 3, 2, 1]
    waited = {line["id"]: line["due_s"] - line["arrival_s"] for line in sent.outcomes}
    assert waited[1] > waited[5] > 0.04
    assert all(line["sent_s"] - line["due_s"] < 0.03 for line in sent.outcomes)


def test_a_waiting_turn_ranks_by_the_arrival_it_then_has():
    turns = [Row(1, None, 12, 3, think_s=0.1, rank=0.0, rise=1.0)]
    plan = [
        Row(0, 0.0, 12, 3, turns=[0]),
        Row(2, 0.08, 12, 3),
        Row(3, 0.09, 12, 3, rank=0.09),
        Row(4, 0.1, 12, 3, rank=9.0),
    ]

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0 if asked.tag == 0 else 0.15)
        await fine(asked)

    with serving(slow) as server:
        send(server.port, plan, most=1, turns=turns)
    assert [asked.tag for asked in server.asked] == [0, 2, 3, 1, 4]


def test_a_turn_waits_for_its_parent_and_its_think_time():
    turns = [Row(1, None, 12, 3, think_s=0.2, turns=[1]), Row(2, None, 12, 3, think_s=0.1)]
    with serving(fine) as server:
        sent = send(server.port, [Row(0, 0.0, 12, 3, turns=[0])], turns=turns)
    first, second, third = sent.outcomes
    assert second["arrival_s"] == pytest.approx(first["finish_s"] + 0.2)
    assert third["arrival_s"] == pytest.approx(second["finish_s"] + 0.1)
    assert third["sent_s"] >= third["arrival_s"]


def test_a_turn_comes_also_after_a_parent_that_failed():
    async def fails(asked: Asked) -> None:
        await (asked.answer(500, {}) if asked.tag == 0 else fine(asked))

    with serving(fails) as server:
        sent = send(server.port, [Row(0, 0.0, 12, 3, turns=[0])], turns=[Row(1, None, 12, 3, think_s=0.05)])
    assert [line["status"] for line in sent.outcomes] == ["error", "ok"]


def test_a_stop_leaves_what_was_not_answered_without_an_outcome():
    async def some(asked: Asked) -> None:
        await asyncio.sleep(5 if asked.tag == 3 else 0)
        await fine(asked)

    with serving(some) as server:
        sent = send(server.port, rows(100, gap_s=0.02), stop_after_s=0.3)
    known = [line["id"] for line in sent.outcomes]
    assert 3 not in known
    assert 8 < len(known) < 20
    assert len(server.asked) == len(known) + 1


def test_a_request_asks_for_the_traced_lengths():
    with serving(fine) as server:
        sent = send(server.port, [Row(0, 0.0, 77, 9, priority=-3)])
    body = server.asked[0].body
    assert (len(body["prompt"].split()), body["max_tokens"], body["min_tokens"], body["priority"]) == (77, 9, 9, -3)
    assert body["ignore_eos"] is True
    assert (sent.only["prompt_tokens"], sent.only["output_tokens"]) == (77, 9)


def test_more_requests_than_are_made_ahead_are_all_sent_once():
    async def quick(asked: Asked) -> None:
        await asked.stream(text(finish="length"), usage(12, 1))

    with serving(quick) as server:
        sent = send(server.port, rows(600, gap_s=0.001))
    assert [line["id"] for line in sent.outcomes] == list(range(600))
    assert sorted(asked.tag for asked in server.asked) == list(range(600))


def test_a_request_does_not_wait_for_a_connection_that_hangs_when_another_has_come_back(monkeypatch):
    opened = []

    async def only_one(*args: Any) -> Connection:
        opened.append(args)
        if len(opened) > 1:
            await asyncio.sleep(60)
        return await connect(*args)

    monkeypatch.setattr(pool, "connect", only_one)
    with serving(fine) as server:
        sent = send(server.port, rows(2, gap_s=0.003))
    assert [line["status"] for line in sent.outcomes] == ["ok"] * 2
    assert len(opened) > 1
    assert server.connections == 1
