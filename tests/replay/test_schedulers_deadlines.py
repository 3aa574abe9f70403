"""Policies by deadline: as many in time as can be, and who is first."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.placements.prism_code import ARBITER
from replay.schedulers.moore_hodgson import in_time
from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, make_trace, simulate
from toolkit import plugins
from toolkit.errors import SettingFailure

jobs = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), min_size=1, max_size=8)


def all_in_time(chosen: np.ndarray, now: float) -> bool:
    """Whether (due, takes) rows, one after the other by deadline, all end by their deadlines."""
    ends = now + np.cumsum(chosen[:, 1])
    return bool((ends <= chosen[:, 0]).all())


@settings(max_examples=150, deadline=None)
@given(jobs, st.integers(0, 5))
def test_moore_hodgson_has_as_many_in_time_as_any_choice(jobs, now):
    rows = np.array(sorted(jobs), np.float64)
    order = in_time(rows[:, 0].copy(), rows[:, 1].copy(), float(now))
    assert sorted(order.tolist()) == list(range(len(rows)))
    most = max(
        size
        for size in range(len(rows) + 1)
        for chosen in combinations(range(len(rows)), size)
        if all_in_time(rows[list(chosen)], now)
    )
    assert all_in_time(rows[order[:most]], now)
    taken, left = order[:most], order[most:]
    assert (np.diff(taken) > 0).all()  # by deadline, those that are left out too
    assert (np.diff(left) > 0).all()


def in_time_of(spec: str) -> int:
    """Requests with their first token in time: 60 prompts at once, one place, a second for ten of them."""
    rng = np.random.default_rng(2)
    rows = [
        {
            "arrival_s": 0.0, "prompt_tokens": int(rng.integers(100, 1_500)), "output_tokens": 1,
            "slo_ttft_s": float(rng.uniform(0.1, 4.0)),
        }
        for _ in range(60)
    ]  # fmt: skip
    limits = Limits(kv_blocks=10_000, max_num_seqs=1, max_num_batched_tokens=2_000, prefix_caching=False)
    found = simulate(make_trace(rows), plugins.create("scheduler", spec), limits, Affine(0.0, 0.0002)).outcomes
    return int((found["first_token_s"] - found["arrival_s"] <= found["slo_ttft_s"]).sum())


def test_more_are_in_time_than_by_deadline_slack_or_arrival():
    found = {spec: in_time_of(spec) for spec in ("moore-hodgson", "edf", "least-slack", "fcfs")}
    assert found["moore-hodgson"] >= 1.5 * max(count for spec, count in found.items() if spec != "moore-hodgson")


def test_deadlines_and_slacks_rank_by_hand():
    rows = [
        {"arrival_s": 0.0, "prompt_tokens": 100, "output_tokens": 1, "slo_ttft_s": 3.0},
        {"arrival_s": 1.0, "prompt_tokens": 1_000, "output_tokens": 1, "slo_ttft_s": None},
    ]
    trace = make_trace(rows)
    assert plugins.create("scheduler", "edf:slo_ttft_s=2.5").rank(trace, 0.0).tolist() == [3.0, 3.5]
    slack = plugins.create("scheduler", "least-slack:slo_ttft_s=2.5,alpha_prefill=0.001").rank(trace, 0.0)
    assert slack.tolist() == [2.9, 2.5]


def test_slack_as_in_prisms_prototype():
    rows = [{"arrival_s": 1.0, "prompt_tokens": n, "output_tokens": 1, "slo_ttft_s": 3.0} for n in (100, 1_024, 8_000)]
    ranks = plugins.create("scheduler", ARBITER).rank(make_trace(rows), 0.0)
    assert ranks.tolist() == [4.0 - 0.2, 4.0 - 0.5, 4.0 - 2.0]
    with pytest.raises(SettingFailure, match="0 ≤ least_s ≤ most_s"):
        plugins.create("scheduler", "least-slack:least_s=3,most_s=2")
