"""A scheduler in front of an endpoint: who is let in when, by every part of its protocol."""

import asyncio

import numpy as np
import polars as pl
import pytest

from replay.http.asked import Asked
from replay.http.exchange import Exchange
from replay.http.lines import LaneRule, Ranked
from replay.http.rows import Row
from replay.schedulers.driftsched import Weighted
from replay.schedulers.moore_hodgson import MooreHodgson
from tests.replay.http.scripted import fine, serving
from tests.replay.http.test_replaying import replay, simple, tags, trace_file
from tests.replay.simulations import make_trace
from toolkit import plugins
from toolkit.plugins import BUILTIN
from toolkit.runs import Run


def exchange(n: int, arrival_s: float = 0.0, **row) -> Exchange:
    return Exchange(Row(n, arrival_s, row.pop("prompt", 10), 5, **row), b"", arrival_s)


def taken(line, now_s: float = 0.0) -> list[int]:
    return [line.take(now_s).row.id for _ in range(len(line))]


def test_lanes_take_turns_in_their_cycle():
    line = Ranked(LaneRule(2, [0, 0, 1]))
    for n in range(8):
        line.put(exchange(n, lane=n % 2))
    assert taken(line) == [0, 2, 1, 4, 6, 3, 5, 7]


def test_the_lane_with_the_least_service_is_next():
    line = Ranked(LaneRule(2, prompt_weight=1.0, output_weight=2.0))
    heavy, light = [exchange(n, lane=0, prompt=100) for n in range(3)], [exchange(n, lane=1) for n in range(3, 9)]
    for each in (*heavy, *light):
        line.put(each)
    first = line.take(0.0)
    assert first.row.id == 0
    assert taken(line)[:5] == [3, 4, 5, 6, 7]


def test_a_lane_that_was_empty_has_no_claim_from_before():
    line = Ranked(LaneRule(2))
    for n in range(3):
        line.put(exchange(n, lane=0, prompt=100))
    line.take(0.0)
    line.put(exchange(3, lane=1))
    line.put(exchange(4, lane=1))
    assert taken(line) == [1, 3, 4, 2]


def test_patience_changes_a_rank_once():
    line = Ranked()
    line.put(exchange(0, rank=5.0, after_s=2.0, shift=-10.0))
    line.put(exchange(1, rank=1.0))
    line.put(exchange(2, rank=0.0))
    assert line.take(1.0).row.id == 2
    assert taken(line, 2.5) == [0, 1]


class Learner:
    """Shortest first, as soon as it has seen anything end."""

    observe_every_s = 1.0

    def __init__(self) -> None:
        self.seen = pl.DataFrame()

    def rank(self, requests: pl.DataFrame, now_s: float) -> np.ndarray:
        return requests["output_tokens" if len(self.seen) else "arrival_s"].to_numpy().astype(float)

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> None:
        self.seen = outcomes


def waiting(scheduler, outputs: list[int]) -> Asked:
    trace = make_trace(
        [{"arrival_s": float(n), "prompt_tokens": 10, "output_tokens": o} for n, o in enumerate(outputs)]
    )
    line = Asked(scheduler, trace, lambda: 100.0)
    for n in range(len(outputs)):
        line.put(exchange(n, 100.0 + n))
    return line


def test_what_ended_is_shown_and_changes_the_order():
    scheduler = Learner()
    line = waiting(scheduler, [4, 3, 2, 1])
    line.tick(100.0)
    done = line.take(100.5)
    assert done.row.id == 0
    done.sent_s, done.times = 100.1, [100.2, 100.4]
    line.ended(done, 4)
    line.tick(100.9)
    assert scheduler.seen.is_empty()
    line.tick(101.0)
    assert scheduler.seen.select("request_id", "arrival_s", "output_tokens", "status").rows() == [(0, 0.0, 4, "ok")]
    assert scheduler.seen["finish_s"][0] == pytest.approx(0.4)
    assert taken(line, 101.0) == [3, 2, 1]


def test_a_queue_is_ordered_as_a_whole():
    line = waiting(Weighted(), [10] * 6)
    assert sorted(taken(line, 106.0)) == list(range(6))
    line = waiting(MooreHodgson(), [10] * 6)
    assert sorted(taken(line, 106.0)) == list(range(6))


@pytest.mark.parametrize("name", list(BUILTIN["scheduler"]))
def test_every_scheduler_can_be_in_charge(name):
    from replay.http.orders import asked, orders_of
    from replay.http.plan import waits

    rows = [
        {"arrival_s": 0.1 * n, "prompt_tokens": 10 + n, "output_tokens": 3 + n, "predicted_output_tokens": 4,
         "tenant": "ab"[n % 2], "tier": ("premium", "batch")[n % 2], "slo_ttft_s": 1.0, "slo_tpot_s": 0.1}
        for n in range(12)
    ]  # fmt: skip
    trace, scheduler = make_trace(rows), plugins.create("scheduler", name)
    orders = orders_of(scheduler, trace, waits(trace, closed=True), True)
    line = Asked(scheduler, trace, lambda: 0.0) if asked(scheduler) else Ranked(LaneRule(**orders.lanes))
    for n in range(12):
        told = {k: v[n].item() for k, v in orders.columns.items()}
        line.put(exchange(n, 0.1 * n, **told))
    line.tick(2.0)
    assert sorted(taken(line, 2.0)) == list(range(12))


def test_a_scheduler_that_learns_lets_in_over_http(tmp_path):
    rows = [{**row, "tenant": "t", "predicted_output_tokens": 3} for row in simple(30, 0.005)]
    with serving(fine) as server:
        file = trace_file(tmp_path, rows)
        done = replay(file, tmp_path / "r", "--url", server.url, "--scheduler", "driftsched-aging", "--max-inflight", 1)
        many = replay(
            file, tmp_path / "n", "--url", server.url, "--scheduler", "driftsched-aging", "--max-inflight", 2,
            "--workers", 2,
        )  # fmt: skip
        idle = replay(file, tmp_path / "i", "--url", server.url, "--scheduler", "sjf")
    assert done.exit_code in (0, 3), done.output
    assert sorted(tags(server)) == list(range(30))
    assert Run.open(tmp_path / "r" / "driftsched-aging").info["statuses"] == {"ok": 30}
    assert "send with --workers 1" in many.output
    assert "--max-inflight" in idle.output


async def slow(asked) -> None:
    if asked.tag >= 0:
        await asyncio.sleep(0.04)
    await fine(asked)


@pytest.mark.parametrize("scheduler", ["vtc", "moore-hodgson"])
def test_lanes_and_orders_let_in_over_http(tmp_path, scheduler):
    """Who came first is not next: a tenant that has had nothing, or, of those too late already, the latest is."""
    rows = [
        {"arrival_s": 0.001 * n, "model": "m", "prompt_tokens": 20, "output_tokens": 3, "tenant": "aaaaaaaaab"[n]}
        | {"slo_ttft_s": 0.001 if n < 9 else 60.0}
        for n in range(10)
    ]
    options = ("--scheduler", scheduler, "--max-inflight", 1, "--lag-bound-s", 60)
    with serving(slow) as server:
        done = replay(trace_file(tmp_path, rows), tmp_path / "r", "--url", server.url, *options)
    assert done.exit_code == 0, done.output
    assert sorted(tags(server)) == list(range(10))
    assert tags(server).index(9) <= 3
