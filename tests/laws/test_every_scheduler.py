"""Every built-in scheduler, one by one, on two traces under memory pressure: what chance leaves out is held here."""

import numpy as np
import polars as pl
import pytest

from replay.simulation.costs import service_costs
from replay.simulation.policies import checked_ranks, tell
from replay.simulation.setup import Limits
from replay.simulation.state import PS
from tests.laws.test_uncompiled import some_trace
from tests.replay.simulations import Affine, make_trace, prepare, simulate
from tests.replay.strategies import BUILT_IN
from toolkit import plugins

LATENCY = Affine(step_s=0.01, token_s=0.0003, sequence_s=0.0001, kv_token_s=0.00001)
ALONE = Limits(kv_blocks=30, max_num_seqs=5, max_num_batched_tokens=64, max_model_len=400, prefix_caching=False)
TOGETHER = Limits(
    kv_blocks=60, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=400, instances=2,
    routing="least-loaded", swap_s_per_token=0.0002,
)  # fmt: skip


@pytest.mark.parametrize("limits", [ALONE, TOGETHER], ids=["recompute", "swap"])
@pytest.mark.parametrize("spec", BUILT_IN)
def test_the_laws_hold(spec, limits):
    trace = some_trace()
    jumped, stepped = (
        simulate(trace, plugins.create("scheduler", spec), limits, LATENCY, jump=jump) for jump in (True, False)
    )
    for table in ("outcomes", "events", "timeline"):
        assert getattr(jumped, table).equals(getattr(stepped, table))
    assert jumped.summary == stepped.summary
    found = jumped.outcomes
    assert found["request_id"].to_list() == list(range(len(trace)))
    assert found["status"].to_list() == ["ok"] * len(trace)
    assert found["output_tokens"].to_list() == trace["output_tokens"].to_list()
    assert (found["arrival_s"] <= found["start_s"]).all()
    assert (found["start_s"] < found["first_token_s"]).all()
    assert (found["first_token_s"] <= found["finish_s"]).all()
    assert (stepped.timeline["running"] <= limits.max_num_seqs).all()
    assert (stepped.timeline["kv_used_blocks"] <= limits.kv_blocks).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spec", BUILT_IN)
def test_a_jump_that_no_sample_cuts_changes_nothing(spec, seed, monkeypatch):
    """The timeline's samples of a trace of seconds cut every jump to a step; those of a day's trace do not."""
    monkeypatch.setattr("replay.simulation.driver.SAMPLES_A_SPAN", 1)
    limits = Limits(kv_blocks=60, max_num_seqs=16, max_num_batched_tokens=64, prefix_caching=seed % 2 == 0)
    trace = _pressing(seed)
    jumped, stepped = (
        simulate(trace, plugins.create("scheduler", spec), limits, LATENCY, jump=jump) for jump in (True, False)
    )
    assert jumped.outcomes.equals(stepped.outcomes)


def _pressing(seed: int) -> pl.DataFrame:
    """Requests of three tenants and tiers, some of which fill more than half of the memory."""
    rng = np.random.default_rng(seed)
    n = 25
    arrival = np.append(0.0, rng.exponential(0.2, n - 1)).cumsum()
    return make_trace(
        pl.DataFrame(
            {
                "arrival_s": arrival,
                "prompt_tokens": np.where(rng.random(n) < 0.5, rng.integers(1, 60, n), rng.integers(200, 600, n)),
                "output_tokens": rng.integers(1, 300, n),
                "tenant": rng.choice(["a", "b", "c"], n),
                "tier": rng.choice(["premium", "standard", "batch"], n),
            }
        )
    )


# Those that learn a request's length rank it by what they knew when they last looked.
LEARN_LENGTHS = ("driftsched-sjf", "driftsched-sjf:preset=trace,unit=words,feedback_s=0.1")


@pytest.mark.parametrize("spec", [spec for spec in BUILT_IN if spec not in LEARN_LENGTHS])
def test_turns_rank_by_when_they_came(spec):
    trace = some_trace()
    driver = prepare(trace, plugins.create("scheduler", spec), ALONE, LATENCY)
    driver.exhaust()
    came = trace.with_columns(arrival_s=pl.Series(driver.state.requests["arrival"] / PS))
    assert (came["arrival_s"] != trace["arrival_s"]).sum() == trace["parent_id"].count() == 8
    scheduler = plugins.create("scheduler", spec)
    tell(scheduler, service_costs(trace, ALONE, driver.latency))
    checked_ranks(scheduler, trace, 0.0)  # as the replay does, before anything arrives
    expected = checked_ranks(scheduler, came, 0.0)
    assert driver.state.requests["rank"] == pytest.approx(expected, rel=1e-15, abs=1e-9)
