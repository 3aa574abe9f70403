"""How much is under way, and until when: closed loops, draining, ramps, warm-up, token times."""

import asyncio
import json
import time

import polars as pl
import pytest
from click.testing import CliRunner

from replay.http.rows import Row
from replay.shaping import ramped, warm_up_of
from tests.replay.http.scripted import Asked, fine, rows, send, serving, text, usage
from tests.replay.http.test_replaying import replay, simple, tags, trace_file
from toolkit.cli import main
from toolkit.runs import Run, RunWriter


class Crowd:
    """Answers after a while, and counts how many are there at once."""

    def __init__(self, while_s: float = 0.03):
        self.while_s, self.here, self.most = while_s, 0, 0

    async def __call__(self, asked: Asked) -> None:
        if asked.tag < 0:
            await fine(asked)
            return
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(self.while_s)
        self.here -= 1
        await fine(asked)


def test_a_closed_loop_keeps_so_many_under_way_in_the_traces_order():
    with serving(crowd := Crowd()) as server:
        sent = send(server.port, rows(60, gap_s=100.0), concurrency=6)
    assert crowd.most == 6
    assert [asked.tag for asked in server.asked] == pytest.approx(list(range(60)), abs=6)
    arrivals = [line["arrival_s"] for line in sent.outcomes]
    assert max(arrivals) < 2.0
    ends = sorted(line["finish_s"] for line in sent.outcomes)
    assert arrivals[:6] == pytest.approx([0.0] * 6, abs=0.02)
    assert sorted(arrivals)[6:] == pytest.approx(ends[:-6], abs=0.03)  # a place is taken as soon as it is free


def test_a_closed_loop_outlives_a_server_that_is_gone(monkeypatch):
    monkeypatch.setattr("replay.http.breaker.Breaker.every_s", 0.05)

    async def gone(asked: Asked) -> None:
        if 3 <= asked.number < 26:
            asked.reset()
        else:
            await fine(asked)

    with serving(gone) as server:
        sent = send(server.port, rows(60), concurrency=4)
    assert [line["id"] for line in sent.outcomes] == list(range(60))
    assert sum(line["status"] == "ok" for line in sent.outcomes) == 60 - 23
    assert sum("not sent" in (line["error"] or "") for line in sent.outcomes) == 0


ENDED = ("unfinished", "drain: not ended 0.3 s after the last arrival")
UNSENT = ("unfinished", "drain: not sent 0.3 s after the last arrival")


async def never_odd(asked: Asked) -> None:
    await asyncio.sleep(20 if asked.tag > 0 and asked.tag % 2 else 0)
    await fine(asked)


@pytest.mark.parametrize(("most", "fifth"), [(None, ENDED), (2, UNSENT)])
def test_what_has_not_ended_when_draining_is_over_is_an_outcome_with_its_reason(most, fifth):
    began = time.monotonic()
    with serving(never_odd) as server:
        sent = send(server.port, rows(6), drain_s=0.3, most=most)
    assert time.monotonic() - began < 3
    assert [line["id"] for line in sent.outcomes] == list(range(6))
    found = [(line["status"], line["error"]) for line in sent.outcomes]
    assert found[:2] == [("ok", None), ENDED]
    assert found[5] == fifth
    assert set(found) <= {ENDED, UNSENT, ("ok", None)}


def test_a_closed_loop_drains_from_its_last_arrival():
    with serving(never_odd) as server:
        sent = send(server.port, rows(8), drain_s=0.3, concurrency=5)
    assert [line["status"] for line in sent.outcomes] == ["ok", "unfinished"] * 4
    assert {line["error"] for line in sent.outcomes} == {None, ENDED[1]}


def test_turns_that_still_wait_when_draining_is_over_are_outcomes_too():
    async def slowly(asked: Asked) -> None:
        await asyncio.sleep(0.6)
        await fine(asked)

    with serving(slowly) as server:
        sent = send(server.port, [Row(0, 0.0, 12, 3, turns=[0])], turns=[Row(1, None, 12, 3)], drain_s=0.2)
    assert [(line["id"], line["status"], line["attempts"]) for line in sent.outcomes] == [
        (0, "unfinished", 1),
        (1, "unfinished", 0),
    ]


def test_token_times_are_kept_where_each_token_has_a_chunk(tmp_path):
    async def alternately(asked: Asked) -> None:
        if asked.tag > 0 and asked.tag % 2:
            await asked.stream(text("two tokens", finish="length"), usage(21, asked.body["max_tokens"]))
        else:
            await fine(asked)

    with serving(alternately) as server:
        file = trace_file(tmp_path, simple(10))
        done = replay(file, tmp_path / "r", "--url", server.url, "--token-times")
    assert done.exit_code in (0, 3), done.output
    kept = Run.open(tmp_path / "r/fcfs").table("outcomes").collect().sort("request_id")
    assert kept["token_s"].list.len().to_list()[::2] == kept["output_tokens"].to_list()[::2]
    assert kept["token_s"].is_null().to_list() == [n % 2 == 1 for n in range(10)]
    last = kept["token_s"].list.last() + kept["arrival_s"]
    assert last.to_list()[::2] == pytest.approx(kept["finish_s"].to_list()[::2], abs=1e-4)


def test_a_closed_loop_of_a_trace_needs_none_of_its_arrivals(tmp_path):
    with serving(Crowd(0.01)) as server:
        file = trace_file(tmp_path, simple(40, gap_s=50.0))
        done = replay(file, tmp_path / "r", "--url", server.url, "--concurrency", 4, "--workers", 2)
    assert done.exit_code in (0, 3), done.output
    assert sorted(tags(server)) == list(range(40))
    run = Run.open(tmp_path / "r/fcfs")
    assert run.info["engine"]["load"] == {"concurrency": 4, "drain_s": None}
    assert run.info["offered_per_s"] is None
    assert run.table("outcomes").select(pl.col("arrival_s").max()).collect().item() < 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--concurrency", 2, "--max-inflight", 2), "--concurrency: says already how many are let in"),
        (("--concurrency", 1, "--workers", 2), "--concurrency: 1 cannot be shared by 2 workers"),
    ],
)
def test_what_cannot_be_together_is_said(options, said, tmp_path):
    refused = replay(trace_file(tmp_path, simple(3)), tmp_path / "r", "--url", "http://127.0.0.1:1", *options)
    assert refused.exit_code == 1
    assert said in refused.output


def test_a_ramp_grows_to_the_traces_own_rate():
    frame = pl.DataFrame({"arrival_s": [*[0.1 * n for n in range(1001)], None]})
    at = ramped(frame, 20.0)["arrival_s"]
    counts = [at.is_between(second, second + 4, closed="left").sum() for second in (0, 4, 8, 12, 16, 20, 24)]
    assert counts == pytest.approx([4, 12, 20, 28, 36, 40, 40], abs=1)
    assert at.drop_nulls().is_sorted()
    assert (at[-2], at[-1]) == (110.0, None)
    assert ramped(frame, None) is frame


@pytest.mark.parametrize(("given", "marked"), [("2", [True, True, False]), ("0.1s", [True, False, False])])
def test_what_warms_up_are_the_first_requests_or_the_first_seconds(given, marked, tmp_path):
    writer = RunWriter.create(tmp_path / "r", {"run_id": "r", "warm_up": warm_up_of(given)})
    writer.append("outcomes", pl.DataFrame({"request_id": [0, 1, 2], "arrival_s": [0.0, 0.1, 0.2]}))
    assert Run.open(tmp_path / "r").table("outcomes").collect()["warm_up"].to_list() == marked


def test_what_warms_up_is_sent_and_left_out_of_every_metric(tmp_path):
    fewer = 10
    with serving(fine) as server:
        file = trace_file(tmp_path, simple(40, slo_ttft_s=5.0))
        done = replay(file, tmp_path / "r", "--url", server.url, "--warm-up", fewer)
    assert done.exit_code in (0, 3), done.output
    assert sorted(tags(server)) == list(range(40))
    run = tmp_path / "r/fcfs"
    marked = Run.open(run).table("outcomes").collect().sort("request_id")["warm_up"].to_list()
    assert marked == [n < fewer for n in range(40)]
    asked = "SELECT count(*) AS offered, count(ttft_s) AS known, count(slo_met) AS judged FROM outcomes"
    (row,) = json.loads(CliRunner().invoke(main, ["query", asked, "--run", str(run), "--format", "json"]).output)
    assert row == {"offered": 40, "known": 40 - fewer, "judged": 40 - fewer}
    (told,) = json.loads(CliRunner().invoke(main, ["report", str(run), "--json"]).output)["runs"]
    assert (told["requests"], told["warm_up"]) == (40 - fewer, fewer)
    assert told["metrics"]["ttft_s"]["n"] == 40 - fewer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--warm-up", "soon"), "--warm-up: 'soon' is neither seconds nor requests; write 30s"),
        (("--warm-up", "10"), "--warm-up: cannot be left out of the bands of step time; replay without bands"),
        (("--concurrency", "3"), "--concurrency: is of --engine openai"),
    ],
)
def test_what_a_simulation_cannot_do_is_said(options, said, tmp_path):
    words = ["replay", str(trace_file(tmp_path, simple(3))), "--out", str(tmp_path / "r"), *options]
    refused = CliRunner().invoke(main, words + (["--no-band"] if "soon" in options else []))
    assert refused.exit_code == 1
    assert said in refused.output


def test_runs_from_before_warm_up_was_known_are_read(tmp_path):
    with serving(fine) as server:
        replay(trace_file(tmp_path, simple(5)), tmp_path / "r", "--url", server.url)
    for part in (tmp_path / "r/fcfs/outcomes").iterdir():
        pl.read_parquet(part).drop("warm_up").write_parquet(part)
    assert Run.open(tmp_path / "r/fcfs").table("outcomes").collect()["warm_up"].to_list() == [None] * 5
    told = CliRunner().invoke(main, ["report", str(tmp_path / "r/fcfs"), "--json"])
    assert json.loads(told.output)["runs"][0]["requests"] == 5
