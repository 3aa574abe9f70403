"""The laws of synchronous micro-batches, over random traces, limits and schedulers."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.schedulers.fcfs import FCFS
from replay.schedulers.sjf import SJF
from replay.simulation.setup import Limits
from tests.laws.test_uncompiled import some_trace
from tests.replay import strategies as some
from tests.replay.micro_batches import batches, outcomes, serve
from tests.replay.simulations import Affine

LATENCY = Affine(step_s=0.01, token_s=0.0003, sequence_s=0.0001, kv_token_s=0.00001)
laws = settings(max_examples=40, deadline=None)
one_instance = some.limits().map(lambda limits: replace(limits, instances=1, lockstep=False, async_scheduling=False))
waits = st.sampled_from([0.0, 0.01, 0.5])
polls = st.sampled_from([0.0, 0.3])


def sizes(limits):
    return max(1, limits.max_num_seqs - 1)


@laws
@given(some.traces(), some.schedulers, one_instance, waits, polls)
def test_every_request_has_one_outcome_with_its_times_in_order(trace, scheduler, limits, wait, poll):
    found = outcomes(serve(trace, some.fresh(scheduler), limits, LATENCY, batch_wait_s=wait, idle_poll_s=poll))
    assert found["request_id"].to_list() == list(range(len(trace)))
    served = found.filter(pl.col("status") == "ok")
    assert (served["start_s"] >= served["arrival_s"]).all()
    assert (served["first_token_s"] > served["start_s"]).all()
    assert (served["finish_s"] >= served["first_token_s"]).all()
    assert (served["finish_s"] - served["start_s"] >= served["alone_s"] - 1e-9).all()
    asked = trace.filter(pl.col("request_id").is_in(served["request_id"].implode()))["output_tokens"]
    assert served["output_tokens"].to_list() == asked.to_list()
    assert found.filter(pl.col("status") == "rejected")["error"].null_count() == 0


@laws
@given(some.traces(), some.schedulers, one_instance)
def test_a_batch_holds_its_size_and_memory_and_ends_at_once(trace, scheduler, limits):
    folder = serve(trace, some.fresh(scheduler), limits, LATENCY, batch_size=sizes(limits))
    found = batches(folder)
    assert (found["request_id"].list.len() <= sizes(limits)).all()
    assert (found["ends"] == 1).all()
    assert (found["start_s"][1:] >= found["end_s"][:-1] - 1e-12).all()
    timeline = folder.table("timeline")
    assert len(timeline) == len(found)
    if len(found):
        assert timeline["kv_used_blocks"].max() + limits.watermark_blocks <= limits.kv_blocks
        assert timeline["running"].to_list() == found["request_id"].list.len().to_list()


@laws
@given(some.traces(), some.schedulers, one_instance, waits)
def test_the_engine_idles_no_longer_than_the_wait(trace, scheduler, limits, wait):
    folder = serve(trace, some.fresh(scheduler), limits, LATENCY, batch_size=sizes(limits), batch_wait_s=wait)
    served = outcomes(folder).filter(pl.col("status") == "ok")
    free = 0.0
    for start, end in batches(folder).select("start_s", "end_s").rows():
        seen = max(free, served.filter(pl.col("start_s") >= start)["arrival_s"].min())
        assert seen - 1e-9 <= start <= seen + wait + 1e-9
        free = end


@laws
@given(some.traces(), st.sampled_from([FCFS(), SJF()]), one_instance)
def test_nobody_overtakes_in_rank_order(trace, scheduler, limits):
    folder = serve(trace, some.fresh(scheduler), limits, LATENCY, batch_size=sizes(limits))
    served = outcomes(folder).filter(pl.col("status") == "ok")
    by = "arrival_s" if isinstance(scheduler, FCFS) else "output_tokens"
    for start, members in batches(folder).select("start_s", "request_id").rows():
        taken = served.filter(pl.col("request_id").is_in(members))
        left = served.filter((pl.col("arrival_s") <= start) & (pl.col("start_s") > start))
        if len(left):
            assert max(taken.select(by, "request_id").rows()) < min(left.select(by, "request_id").rows())


@laws
@given(some.traces(), some.schedulers, one_instance)
def test_turns_wait_for_their_parents(trace, scheduler, limits):
    found = outcomes(serve(trace, some.fresh(scheduler), limits, LATENCY))
    turns = trace.filter(pl.col("think_s").is_not_null() & pl.col("parent_id").is_not_null())
    ends = found.select(parent_id="request_id", ended=pl.coalesce("finish_s", "arrival_s"))
    joined = turns.join(ends, on="parent_id").join(found.select("request_id", came="arrival_s"), on="request_id")
    assert np.allclose(joined["came"], joined["ended"] + joined["think_s"], atol=1e-9, rtol=0)


@laws
@given(some.traces(), some.schedulers, one_instance, waits)
def test_the_same_replay_twice_is_the_same_to_the_byte(trace, scheduler, limits, wait):
    first = serve(trace, some.fresh(scheduler), limits, LATENCY, batch_wait_s=wait)
    again = serve(trace, some.fresh(scheduler), limits, LATENCY, batch_wait_s=wait)
    assert outcomes(first).equals(outcomes(again))
    assert first.results == again.results
    assert first.table("timeline").equals(again.table("timeline"))


@laws
@given(some.traces(), st.sampled_from([FCFS(), SJF()]), one_instance, waits)
def test_time_scales(trace, scheduler, limits, wait):
    slower = Affine(step_s=0.04, token_s=0.0012, sequence_s=0.0004, kv_token_s=0.00004)
    later = trace.with_columns(pl.col("arrival_s", "think_s") * 4)
    once = outcomes(serve(trace, some.fresh(scheduler), limits, LATENCY, batch_wait_s=wait))
    slowly = outcomes(serve(later, some.fresh(scheduler), limits, slower, batch_wait_s=4 * wait))
    for column in ("start_s", "first_token_s", "finish_s"):
        assert np.allclose(once[column].fill_null(0) * 4, slowly[column].fill_null(0), rtol=1e-9, atol=1e-9)


def digest() -> str:
    """Everything a replay of `some_trace` in batches leaves, as text."""
    limits = Limits(kv_blocks=60, max_num_seqs=5, max_num_batched_tokens=64)
    folder = serve(some_trace(), SJF(), limits, LATENCY, batch_wait_s=0.05)
    return "\n".join([outcomes(folder).write_csv(), folder.table("timeline").write_csv(), str(folder.results)])


def test_compiled_and_interpreted_agree_to_the_byte():
    code = "from tests.laws.test_micro_batch_laws import digest; print(digest())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest().strip()
