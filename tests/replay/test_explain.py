"""The story of one request says what its outcome says, and why."""

import numpy as np
import polars as pl
import pytest

from replay.explain import checked_request, story
from replay.schedulers.fcfs import FCFS
from replay.schedulers.srpt import SRPT
from replay.simulation import notes
from replay.simulation.driver import Driver
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits
from replay.simulation.state import PS
from tests.replay.simulations import Affine, make_trace, simulate
from tests.replay.strategies import Attained
from toolkit.errors import SettingFailure
from toolkit.traces import TraceInfo

ONE_PLACE = Limits(kv_blocks=100, max_num_seqs=1, max_num_batched_tokens=64, prefix_caching=False)
LONG_THEN_SHORT = [
    {"arrival_s": 0.0, "prompt_tokens": 32, "output_tokens": 50},
    {"arrival_s": 0.1, "prompt_tokens": 32, "output_tokens": 5},
    {"arrival_s": 0.1, "prompt_tokens": 32, "output_tokens": 60},
]


def told(trace, scheduler, request, limits=ONE_PLACE):
    latency = lower(Affine(), limits.max_num_batched_tokens, limits.max_num_seqs, limits.max_model_len)
    info = TraceInfo("test", "test", "", len(trace), len(trace), span_s=1.0)
    driver = Driver.prepare(trace, info, scheduler, limits, latency, closed=True, watch=request)
    return driver.story()


def kinds(rows):
    return rows[:, 1].tolist()


def test_who_waits_is_told_behind_whom_and_then_for_what():
    trace = make_trace(LONG_THEN_SHORT)
    rows = told(trace, FCFS(), 2)
    waits = rows[rows[:, 1] == notes.WAITS]
    assert set(waits[waits[:, 2] == notes.BEHIND][:, 3]) == {1}
    assert set(waits[:, 2]) == {notes.BEHIND, notes.NO_PLACE}
    text = "\n".join(story(trace, 2, rows))
    assert "1 rank before it" in text
    assert "max_num_seqs requests run" in text


def test_the_displaced_are_told_by_whom():
    trace = make_trace(LONG_THEN_SHORT)
    rows = told(trace, SRPT(), 0)
    lost = rows[rows[:, 1] == notes.PREEMPTED]
    assert lost[:, 3].tolist() == [1]
    assert kinds(rows)[0] == notes.ARRIVED
    assert kinds(rows)[-1] == notes.ENDED
    assert "loses its place to request 1" in "\n".join(story(trace, 0, rows))


@pytest.mark.parametrize("request_id", range(3))
def test_a_story_agrees_with_the_outcome_and_changes_nothing(request_id):
    trace = make_trace(LONG_THEN_SHORT)
    rows, outcomes = told(trace, SRPT(), request_id), simulate(trace, SRPT(), ONE_PLACE).outcomes
    row = outcomes.row(request_id, named=True)
    first = {what: rows[rows[:, 1] == what][0, 0] / PS for what in (notes.STARTED, notes.FIRST_TOKEN, notes.ENDED)}
    assert first[notes.STARTED] == pytest.approx(row["start_s"])
    assert first[notes.FIRST_TOKEN] == pytest.approx(row["first_token_s"])
    assert first[notes.ENDED] == pytest.approx(row["finish_s"])
    assert kinds(rows).count(notes.PREEMPTED) == row["preemptions"]


def test_bends_of_the_rank_are_told_when_they_come_though_nobody_waits():
    trace = make_trace([{"arrival_s": 0.0, "prompt_tokens": 32, "output_tokens": 50}])
    rows, outcome = told(trace, Attained(), 0), simulate(trace, Attained(), ONE_PLACE).outcomes.row(0, named=True)
    bends = rows[rows[:, 1] == notes.BOUNDARY]
    assert bends[:, 2].tolist() == [4, 16]
    step_s = (outcome["finish_s"] - outcome["first_token_s"]) / 49
    came = outcome["first_token_s"] + np.array([3, 15]) * step_s
    assert bends[:, 0] / PS == pytest.approx(came)


def test_want_of_memory_is_told():
    limits = Limits(kv_blocks=6, max_num_seqs=4, max_num_batched_tokens=64, prefix_caching=False)
    trace = make_trace([{"arrival_s": 0.0, "prompt_tokens": 60, "output_tokens": 30}] * 2)
    rows = told(trace, FCFS(), 1, limits)
    assert notes.NO_MEMORY in rows[rows[:, 1] == notes.WAITS][:, 2]


def test_a_rejected_request_says_so():
    trace = make_trace([{"arrival_s": 0.0, "prompt_tokens": 60, "output_tokens": 5000}])
    text = "\n".join(story(trace, 0, told(trace, FCFS(), 0)))
    assert text.endswith("is rejected")


def test_an_unknown_request_is_refused():
    with pytest.raises(SettingFailure, match="no request 3"):
        checked_request(make_trace(LONG_THEN_SHORT), 3)


def test_prefill_first_pauses_what_decodes():
    trace = make_trace(
        [
            {"arrival_s": 0.0, "prompt_tokens": 16, "output_tokens": 20},
            {"arrival_s": 0.05, "prompt_tokens": 256, "output_tokens": 2},
        ]
    )
    limits = Limits(kv_blocks=100, max_num_seqs=4, max_num_batched_tokens=64, prefix_caching=False)
    ends = {}
    for prefill_first in (False, True):
        served = simulate(trace, FCFS(), Limits(**{**vars(limits), "prefill_first": prefill_first})).outcomes
        ends[prefill_first] = served.select("finish_s", "first_token_s").to_numpy()
    # Four chunks of 64 tokens alone instead of five with one decode token among them.
    assert ends[True][1, 1] < ends[False][1, 1]
    assert ends[True][0, 0] > ends[False][0, 0]
    assert np.isfinite(pl.DataFrame(ends[True]).to_numpy()).all()
