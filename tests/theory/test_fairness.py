"""What fair, tiered and starvation-limited policies promise, counted."""

import numpy as np
import polars as pl
import pytest

from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, make_trace, simulate
from toolkit import plugins

STEP_S = 0.01
ONE_SLOT = Limits(kv_blocks=10_000, max_num_seqs=1, max_num_batched_tokens=8_192, prefix_caching=False)
EIGHT = Limits(kv_blocks=10_000, max_num_seqs=8, max_num_batched_tokens=512, prefix_caching=False)


def outcomes(spec: str, trace: pl.DataFrame, limits: Limits = ONE_SLOT) -> pl.DataFrame:
    return simulate(trace, plugins.create("scheduler", spec), limits, Affine(STEP_S, 0.0)).outcomes


def two_clients() -> pl.DataFrame:
    """Both ask for more than half of what there is; one of them for five times as much, in longer requests."""
    rng = np.random.default_rng(8)
    greedy = {"arrival_s": np.sort(rng.uniform(0, 60, 1_000)), "tenant": "greedy", "prompt_tokens": 200}
    modest = {"arrival_s": np.sort(rng.uniform(0, 60, 500)), "tenant": "modest", "prompt_tokens": 50}
    frames = [
        pl.DataFrame(rows).with_columns(output_tokens=pl.Series(rng.integers(low, high, len(rows["arrival_s"]))))
        for rows, low, high in ((greedy, 50, 200), (modest, 20, 100))
    ]
    return make_trace(pl.concat(frames).sort("arrival_s"))


def gap(found: pl.DataFrame, until_s: float) -> float:
    """Most by which the clients' service differs over any stretch of time in which both wait, until `until_s`.

    A prompt counts 1 a token when it is admitted, an output token 2 when it is produced.
    """
    moments = []
    for row in found.filter(pl.col("start_s") < until_s).iter_rows(named=True):
        sign = 1.0 if row["tenant"] == "greedy" else -1.0
        times = np.linspace(row["first_token_s"], row["finish_s"], row["output_tokens"])
        moments.append((row["start_s"], sign * row["prompt_tokens"]))
        moments += [(t, 2.0 * sign) for t in times if t < until_s]
    difference = np.cumsum([0.0, *(weight for _, weight in sorted(moments))])
    return float(difference.max() - difference.min())


def test_the_virtual_token_counter_bounds_the_gap_of_service():
    """Sheng et al., theorem 4.4: 2·max(prompt weight·longest prompt, output weight·tokens that fit a batch)."""
    trace = two_clients()
    until_s = 50.0
    bound = 2 * max(1.0 * 200, 2.0 * 8 * (200 + 200))
    fair, fcfs = outcomes("vtc", trace, EIGHT), outcomes("fcfs", trace, EIGHT)
    for found in (fair, fcfs):  # both clients wait throughout
        waiting = found.filter((pl.col("arrival_s") < until_s) & (pl.col("start_s") > until_s))
        assert set(waiting["tenant"]) == {"greedy", "modest"}
    assert gap(fair, until_s) <= bound
    assert gap(fair, until_s) <= 8 * (200 + 2 * 200)  # as close as the requests of a batch let it be
    assert gap(fcfs, until_s) > bound


def backlog(count: int) -> pl.DataFrame:
    """Three tiers that all wait from the start, in turns of arrival."""
    rows = [
        {"arrival_s": 0.0, "tier": t, "prompt_tokens": 5, "output_tokens": 4} for t in ("batch", "standard", "premium")
    ]
    return make_trace([dict(row) for _ in range(count) for row in rows])


def test_weighted_serves_five_three_two_of_ten():
    found = outcomes("driftsched-weighted", backlog(100)).sort("start_s")
    turns = ["premium"] * 5 + ["standard"] * 3 + ["batch"] * 2
    assert found["tier"][:200].to_list() == turns * 20
    assert set(found["tier"][200:]) == {"standard", "batch"}  # the premium tier is empty, its turns are skipped
    assert found["tier"][200:205].to_list() == ["standard"] * 3 + ["batch"] * 2


def tiers_over(span_s: float) -> pl.DataFrame:
    rng = np.random.default_rng(4)
    count = 400
    frame = pl.DataFrame({
        "arrival_s": np.sort(rng.uniform(0, span_s, count)), "prompt_tokens": 5,
        "output_tokens": rng.integers(50, 150, count),
        "tier": rng.choice(["premium", "standard", "batch"], count),
    })  # fmt: skip
    return make_trace(frame)


def test_aging_is_priority_until_somebody_has_waited_a_tier_away():
    """One tier is 100 s of waiting: in a trace of 90 s the order of keys is that of strict priority."""
    short, long = tiers_over(90.0), tiers_over(300.0)
    for trace, same in ((short, True), (long, False)):
        aging, strict = outcomes("driftsched-aging", trace), outcomes("driftsched-priority", trace)
        assert aging.drop("preempted_s").equals(strict.drop("preempted_s")) == same
    batch = pl.col("tier") == "batch"
    aged, strict = (outcomes(f"driftsched-{p}", long).filter(batch) for p in ("aging", "priority"))
    assert aged["start_s"].min() <= strict["start_s"].min() + 100.0
    assert (aged["start_s"] - aged["arrival_s"]).max() < (strict["start_s"] - strict["arrival_s"]).max()


def crowded() -> pl.DataFrame:
    """One long request among short ones that alone ask for all there is."""
    short = [{"arrival_s": 0.1 + 0.1 * n, "prompt_tokens": 5, "output_tokens": 10} for n in range(1_000)]
    return make_trace([{"arrival_s": 0.05, "prompt_tokens": 5, "output_tokens": 200}, *short])


@pytest.mark.parametrize("bounded", ["ltr:starve_s=3,period=20", "mlfq:starve_s=3,period=20,quantum_s=0.02"])
def test_a_limit_to_starvation_bounds_every_wait(bounded):
    """Whoever stands still for `starve_s` runs for 20 tokens: 200 tokens take at most 10 such turns."""
    trace = crowded()
    alone = outcomes(bounded.replace("starve_s=3", "starve_s=1e6"), trace)
    limited = simulate(trace, plugins.create("scheduler", bounded), ONE_SLOT, Affine(STEP_S, 0.0))
    turn_s = 3.0 + 21 * STEP_S
    worst = limited.outcomes["finish_s"][0] - limited.outcomes["arrival_s"][0]
    assert alone["finish_s"][0] > 90.0  # after all the others
    assert worst <= 10 * turn_s + STEP_S
    lost = limited.events.filter(pl.col("request_id") == 0)["time_s"].to_numpy()
    assert (np.diff(lost) <= turn_s + STEP_S).all()
    assert len(lost) >= 5
