"""The preemption cost: the paper's table, and what it says follows from it."""

from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.cluster.machine import machine_preset
from replay.cluster.preemption_cost import context_of_share, preemption_cost
from replay.simulation.hardware import model_preset

MODELS = ("qwen2.5-3b", "qwen3-8b", "qwen2.5-14b")
TOTAL_S = {"rtx5000-ada": (2.98, 5.16, 7.31), "rtxa6000": (2.62, 4.06, 5.73)}
KV_SHARE = {"rtx5000-ada": (0.006, 0.010), "rtxa6000": (0.008, 0.015)}
GENERATED = (100, 200, 300, 500, 1000, 2000, 3000, 4000, 5000)
PROMPT = 71  # what the paper's KV megabytes hold besides the generated tokens
CELLS = [(machine, model) for machine in TOTAL_S for model in MODELS]


@pytest.mark.parametrize("machine", TOTAL_S)
def test_the_papers_totals_and_shares_come_back(machine: str) -> None:
    found = [[preemption_cost(machine_preset(machine), model_preset(m), n + PROMPT) for n in GENERATED] for m in MODELS]
    totals = [mean(cost.total_s for cost in costs) for costs in found]
    assert totals == pytest.approx(TOTAL_S[machine], abs=0.005)
    shares = [mean(cost.kv_s for cost in costs) / total for costs, total in zip(found, totals, strict=True)]
    low, high = KV_SHARE[machine]
    assert (round(min(shares), 3), round(max(shares), 3)) == (low, high)


def test_kv_bytes_are_the_papers_in_mebibytes() -> None:
    """178.3, 713.1 and 950.8 MB at 5000 generated tokens: so its MB are MiB, and the prompt has 71 tokens."""
    found = [model_preset(m).kv_bytes_per_token * (5000 + PROMPT) / 2**20 for m in MODELS]
    assert found == pytest.approx([178.3, 713.1, 950.8], abs=0.06)


@pytest.mark.parametrize(("machine", "model"), CELLS)
def test_progress_hardly_matters(machine: str, model: str) -> None:
    totals = [preemption_cost(machine_preset(machine), model_preset(model), n).total_s for n in GENERATED]
    assert max(totals) / min(totals) < 1.04
    assert totals == sorted(totals)


@pytest.mark.parametrize(("machine", "model"), CELLS)
def test_kv_transfer_counts_where_reloads_are_ten_times_as_fast_or_contexts_long(machine: str, model: str) -> None:
    slow, preset = machine_preset(machine), model_preset(model)
    fast = replace(
        slow,
        naive_points=tuple((size, seconds / 10) for size, seconds in slow.naive_points),
        engine_start_s=slow.engine_start_s / 10,
        storage_bytes_per_s=slow.storage_bytes_per_s * 10,
    )
    assert preemption_cost(slow, preset, 5071).kv_share < 0.04
    assert preemption_cost(fast, preset, 5071).kv_share > 0.1
    assert 15_000 < context_of_share(slow, preset, 0.1) < 60_000


@given(
    st.sampled_from(["rtx5000-ada", "rtxa6000", "h100-sxm", "generic"]),
    st.sampled_from([*MODELS, "llama-3.3-70b", "deepseek-v3"]),
    st.floats(0.05, 0.95),
    st.sampled_from(["naive", "dram", "parallel"]),
    st.sampled_from([1, 8]),
)
def test_the_context_of_a_share_has_that_share(machine: str, model: str, share: float, method: str, width: int) -> None:
    where, what = machine_preset(machine), model_preset(model)
    context = context_of_share(where, what, share, method, width)
    if context:
        assert preemption_cost(where, what, context, method, width).kv_share == pytest.approx(share)
    else:
        assert preemption_cost(where, what, 1, method, width).kv_share >= share


def test_nothing_in_flight_leaves_the_swap() -> None:
    cost = preemption_cost(machine_preset("h100-sxm"), model_preset("llama-3.1-8b"), 0, "parallel")
    assert cost.kv_s == cost.kv_share == 0
    assert cost.total_s == cost.swap_s == cost.unload_s + cost.reload_s > 0
