"""The laws of DESIGN.md section 6, over random traces, limits and schedulers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.simulation import driver as driver_module
from replay.simulation.policies import observes, orders
from replay.simulation.setup import Limits
from replay.simulation.state import DECODING, NEVER, PREFILLING
from tests.replay import strategies as some
from tests.replay.simulations import Affine, Collected, Result, Unwatched, prepare, result, simulate

LATENCY = Affine(step_s=0.01, token_s=0.0003, sequence_s=0.0001, kv_token_s=0.00001)
laws = settings(max_examples=60, deadline=None)


def same(a: Result, b: Result) -> bool:
    return a.outcomes.equals(b.outcomes) and a.events.equals(b.events) and a.summary == b.summary


@laws
@given(some.traces(), some.schedulers, some.limits())
def test_every_request_has_exactly_one_outcome(trace, scheduler, limits):
    outcomes = simulate(trace, some.fresh(scheduler), limits, LATENCY).outcomes
    assert outcomes["request_id"].to_list() == list(range(len(trace)))
    rejected = outcomes.filter(pl.col("status") == "rejected")
    assert rejected["error"].null_count() == 0
    assert outcomes.filter(pl.col("status") == "ok")["error"].null_count() == len(outcomes) - len(rejected)


@laws
@given(some.traces(), some.schedulers, some.limits())
def test_times_are_in_order_and_tokens_are_what_was_asked_for(trace, scheduler, limits):
    served = simulate(trace, some.fresh(scheduler), limits, LATENCY).outcomes.filter(pl.col("status") == "ok")
    joined = served.join(trace.select("request_id", asked="output_tokens", given="arrival_s"), on="request_id")
    assert (joined["start_s"] >= joined["arrival_s"]).all()
    assert (joined["first_token_s"] > joined["start_s"]).all()
    assert (joined["finish_s"] >= joined["first_token_s"]).all()
    assert (joined["output_tokens"] == joined["asked"]).all()
    assert (joined["finish_s"] - joined["arrival_s"] >= joined["alone_s"] - 1e-9).all() or not _alone(limits)


def _alone(limits: Limits) -> bool:
    """Whether a request alone can be no slower than in company: not when a cache shortens its prefill."""
    return not limits.prefix_caching


@laws
@given(some.traces(sessions=False), some.schedulers, some.limits())
def test_open_requests_arrive_by_the_clock(trace, scheduler, limits):
    outcomes = simulate(trace, some.fresh(scheduler), limits, LATENCY).outcomes
    assert np.allclose(outcomes["arrival_s"], trace["arrival_s"], atol=1e-12, rtol=0)


@laws
@given(some.traces(), some.schedulers, some.limits())
def test_turns_wait_for_their_parents(trace, scheduler, limits):
    outcomes = simulate(trace, some.fresh(scheduler), limits, LATENCY).outcomes
    turns = trace.filter(pl.col("think_s").is_not_null() & pl.col("parent_id").is_not_null())
    ends = outcomes.select(parent_id="request_id", ended=pl.coalesce("finish_s", "arrival_s"))
    arrivals = outcomes.select("request_id", came="arrival_s")
    joined = turns.join(ends, on="parent_id").join(arrivals, on="request_id")
    assert len(joined) == len(turns)
    assert np.allclose(joined["came"], joined["ended"] + joined["think_s"], atol=1e-9, rtol=0)


@laws
@given(some.traces(), some.schedulers, some.limits())
def test_a_jump_changes_nothing(trace, scheduler, limits):
    jumped = simulate(trace, some.fresh(scheduler), limits, LATENCY, jump=True)
    stepped = simulate(trace, some.fresh(scheduler), limits, LATENCY, jump=False)
    assert same(jumped, stepped)
    assert jumped.timeline.equals(stepped.timeline)


@laws
@given(some.traces(), some.schedulers, some.limits(), st.data())
def test_watching_a_request_changes_nothing(trace, scheduler, limits, data):
    watched = prepare(trace, some.fresh(scheduler), limits, LATENCY, watch=data.draw(st.integers(0, len(trace) - 1)))
    kept = Collected()
    assert watched.run(kept, Unwatched())  # type: ignore[arg-type]
    assert same(result(watched, kept), simulate(trace, some.fresh(scheduler), limits, LATENCY))


@laws
@given(some.traces(), some.schedulers, some.limits())
def test_the_same_replay_twice_is_the_same_to_the_byte(trace, scheduler, limits):
    assert same(
        simulate(trace, some.fresh(scheduler), limits, LATENCY), simulate(trace, some.fresh(scheduler), limits, LATENCY)
    )


@laws
@given(some.traces(), some.schedulers, some.limits(), st.sampled_from([2, 3, 10]))
def test_slower_hardware_and_a_slower_clock_scale_every_outcome(trace, scheduler, limits, k):
    if some.by_the_clock(scheduler):
        return
    slower_limits = replace(limits, swap_s_per_token=limits.swap_s_per_token * k)
    slow = trace.with_columns(pl.col("arrival_s", "think_s", "slo_ttft_s") * k)
    slower = Affine(*(value * k for value in (0.01, 0.0003, 0.0001, 0.00001)))
    once, scaled = (
        simulate(trace, some.fresh(scheduler), limits, LATENCY),
        simulate(slow, some.fresh(scheduler), slower_limits, slower),
    )
    assert once.summary["steps"] == scaled.summary["steps"]
    for name in ("start_s", "first_token_s", "finish_s", "preempted_s"):
        a, b = once.outcomes[name].fill_null(-1.0) * k, scaled.outcomes[name].fill_null(-1.0)
        assert np.allclose(a.clip(lower_bound=0), b.clip(lower_bound=0), rtol=1e-9, atol=1e-6)


@laws
@given(some.traces(), some.schedulers, some.limits(), st.integers(1, 200))
def test_a_replay_cut_in_two_is_the_uncut_one(tmp_path_factory, trace, scheduler, limits, moves):
    if observes(scheduler) or orders(scheduler):
        return  # such a replay keeps no checkpoint and starts over
    cut = prepare(trace, some.fresh(scheduler), limits, LATENCY)
    cut._move(NEVER, moves)
    kept = Collected()
    cut._write(kept)  # type: ignore[arg-type]
    cut.save(kept)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoint.npz").write_bytes(kept.checkpoint)

    class Resumed(Collected):
        def truncate(self, counts):
            assert counts == {name: len(frames) for name, frames in self.tables.items()}

    continued = prepare(trace, some.fresh(scheduler), limits, LATENCY)
    resumed = Resumed(kept.tables)
    continued.restore(folder, resumed)  # type: ignore[arg-type]
    assert continued.run(resumed, Unwatched())  # type: ignore[arg-type]
    assert same(result(continued, resumed), simulate(trace, some.fresh(scheduler), limits, LATENCY))


@laws
@given(some.traces(), some.schedulers, some.limits())
def test_memory_and_batch_limits_hold_at_every_step_and_nothing_leaks(trace, scheduler, limits):
    monkeypatch = pytest.MonkeyPatch()
    driver = prepare(trace, some.fresh(scheduler), limits, LATENCY, jump=False)
    monkeypatch.setattr(driver_module, "BITE", 1)
    more = True
    while more:
        more = driver._advance()
        for i, instance in enumerate(driver.state.instances):
            free = instance.free + instance.held_blocks  # a finished request's go a step late where that is planned
            assert 0 <= instance.idle <= free <= limits.kv_blocks
            assert instance.free >= 0
            assert instance.running <= limits.max_num_seqs
            assert instance.last_batch <= limits.max_num_batched_tokens
            assert _held(driver, i, limits) == limits.kv_blocks - free
            if instance.running == 0 and instance.waiting > 0 and not more:
                raise AssertionError("admissible work is left")
    monkeypatch.undo()
    assert all(instance.free == limits.kv_blocks for instance in driver.state.instances)


def _held(driver, i: int, limits: Limits) -> int:
    """KV blocks that the requests at instance `i` hold, counted from the requests themselves."""
    own, shared = 0, set()
    for q in driver.state.requests:
        if q.instance != i or q.status not in (PREFILLING, DECODING):
            continue
        context = q.computed if q.status == PREFILLING else driver.state.instances[i].decoded - q.origin
        own += -(-context // limits.block_tokens) - q.shared * (16 // limits.block_tokens)
        shared |= set(driver.state.prefix[q.blocks_from : q.blocks_from + q.shared].tolist())
    return own + len(shared) * (16 // limits.block_tokens)
