"""A replay that puts a scheduler in charge inside the engine, and holds what was intended against what was done."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from replay.http.obeyed import NEAR_S, kept
from replay.vllm import hints
from replay.vllm.charge import Charge
from tests.replay.http.scripted import Asked, fine, serving
from tests.replay.http.test_replaying import replay, simple, tags, trace_file
from toolkit.runs import Run


class Inside:
    """A server with a scheduler of ours in it that runs requests as they come."""

    def __init__(self) -> None:
        self.charge = Charge()
        self.hinted: dict[int, dict] = {}

    async def __call__(self, asked: Asked) -> None:
        said = asked.body.get(hints.FIELD)
        if isinstance(said, dict) and hints.REQUEST not in said:
            await asked.answer(200, {"choices": [], "kv_transfer_params": self.charge.hear(said)})
            return
        if isinstance(said, dict):
            self.hinted[asked.tag] = said
            name = str(said[hints.REQUEST])
            self.charge.starts_to_run(self.charge.meet(name, said, 1, 1, self.charge._clock(), 0))
            self.charge.ended(name, ok=True)
        await fine(asked)


def test_each_request_says_its_number_and_its_intended_arrival(tmp_path):
    with serving(inside := Inside()) as server:
        file = trace_file(tmp_path, simple(20))
        done = replay(file, tmp_path / "r", "--url", server.url, "--scheduler", "sjf", "--send-hints")
    assert done.exit_code in (0, 3), done.output
    assert sorted(tags(server)) == [*range(20)]
    info = Run.open(tmp_path / "r" / "sjf").info
    assert all(said[hints.RUN] == info["prompt_seed"] for said in inside.hinted.values())
    assert {n: said[hints.REQUEST] for n, said in inside.hinted.items()} == {n: n for n in range(20)}
    assert [round(inside.hinted[n][hints.ARRIVAL], 6) for n in range(20)] == [round(0.02 * n, 6) for n in range(20)]
    assert info["order"] == {"choices": 0, "kept": 0}  # everybody ran at once


def test_an_engine_without_our_scheduler_is_refused(tmp_path):
    with serving(fine) as server:
        file = trace_file(tmp_path, simple(5))
        done = replay(file, tmp_path / "r", "--url", server.url, "--scheduler", "sjf", "--send-hints")
        (tmp_path / "mine.py").write_text("from replay.schedulers.sjf import SJF as Mine\n")
        own = f"{tmp_path}/mine.py:Mine"
        mine = replay(file, tmp_path / "r", "--url", server.url, "--scheduler", own, "--send-hints")
    assert done.exit_code == 1
    assert "--scheduler-cls replay.vllm.scheduler.TraceScheduler" in done.output
    assert "entry point" in mine.output
    assert tags(server).count(0) == 0


def test_what_the_engine_did_is_held_against_the_ranks(tmp_path):
    """This one serves in the order of arrival, one after the other, whatever priorities say."""
    rows = [{"arrival_s": 0.01 * n, "model": "a", "prompt_tokens": 20, "output_tokens": 9 - n} for n in range(8)]
    turn = []

    async def slow(asked: Asked) -> None:
        import asyncio

        if asked.tag >= 0:
            turn.append(asked.tag)
            while turn[0] != asked.tag:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.08)
            turn.pop(0)
        await fine(asked)

    with serving(slow) as server:
        done = replay(
            trace_file(tmp_path, rows), tmp_path / "r", "--url", server.url, "--scheduler", "sjf", "--send-priority",
            "--lag-bound-s", 60,
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert Run.open(tmp_path / "r" / "sjf").info["order"] == {"choices": 7, "kept": 0}
    assert "of 7 requests begun while others waited, 0.0% were the first by rank" in done.output


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_it_counts_as_looking_at_every_pair_would(found):
    rank = np.array([r for r, _, _ in found], float)
    came_s = np.array([c for _, c, _ in found], float)
    begun_s = came_s + np.array([w for _, _, w in found], float)
    choices = first = 0
    for n in range(len(found)):
        others = (came_s < begun_s[n] - NEAR_S) & (begun_s > begun_s[n] + NEAR_S)
        choices += others.any()
        first += bool(others.any() and (rank[others] >= rank[n]).all())
    assert kept(rank, came_s, begun_s) == (choices, first)


def test_a_table_travels_as_a_text():
    frame = hints.starts_of({hints.ASK: hints.told([(3, 0.5, None, 0), (1, 0.1, 0.2, 4)])})
    assert frame.to_dicts()[1] == {"request_id": 1, "came_s": 0.1, "start_s": 0.2, "preemptions": 4}
    assert frame.schema == hints.STARTS
    assert isinstance(frame, pl.DataFrame)
