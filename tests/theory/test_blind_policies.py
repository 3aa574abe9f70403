"""Means in one slot: SRPT's is the least, and who is best without knowing sizes depends on their distribution."""

import numpy as np
import polars as pl
import pytest

from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, make_trace, simulate
from tests.theory.test_queues import met
from toolkit import plugins

STEP_S = 0.001
# Losing a place costs nothing: whatever has to be computed again fits into the step of the next token.
ONE_SLOT = Limits(
    kv_blocks=10_000, max_num_seqs=1, max_num_batched_tokens=32_768, max_model_len=40_000, prefix_caching=False
)
BLIND = ("fcfs", "las", "mlfq:quantum_s=0.004", "gittins:lengths=trace,quantum=1,ratio=1.05", "vtc", "uniboost")


def queue(lengths: np.ndarray, load: float, seed: int) -> pl.DataFrame:
    """A Poisson trace of these output lengths that offers `load` to one slot."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(lengths.mean() * STEP_S / load, len(lengths)))
    return make_trace(pl.DataFrame({"arrival_s": arrival, "output_tokens": lengths, "prompt_tokens": 1}))


def drawn(kind: str, requests: int) -> np.ndarray:
    """Output lengths whose hazard rate falls, rises and falls, or is that of one value."""
    rng = np.random.default_rng(5)
    if kind == "deterministic":
        return np.full(requests, 20)
    if kind == "two-point":
        return np.where(rng.random(requests) < 0.7, 6, 60)
    mean = np.where(rng.random(requests) < 0.9, 5.0, 155.0)
    return np.maximum(1, np.rint(rng.exponential(mean))).astype(int)


def responses(spec: str, trace: pl.DataFrame) -> np.ndarray:
    outcomes = simulate(trace, plugins.create("scheduler", spec), ONE_SLOT, Affine(STEP_S, 0.0)).outcomes
    return (outcomes["finish_s"] - outcomes["arrival_s"]).to_numpy()


def means(kind: str, specs: tuple[str, ...]) -> dict[str, float]:
    trace = queue(drawn(kind, 20_000), 0.8, seed=31)
    return {spec.partition(":")[0]: float(responses(spec, trace).mean()) for spec in specs}


@pytest.mark.parametrize("kind", ["hyperexponential", "two-point", "deterministic"])
def test_srpt_has_the_least_mean_of_all(kind):
    trace = queue(drawn(kind, 2_000), 0.8, seed=30)
    found = {spec: responses(spec, trace).mean() for spec in plugins.BUILTIN["scheduler"]}
    assert found["srpt"] <= min(found.values()) * 1.0001
    assert found["srpt"] < 0.7 * found["fcfs"] or kind == "deterministic"


def test_las_is_best_without_sizes_where_the_hazard_rate_falls():
    found = means("hyperexponential", BLIND)
    gittins = found.pop("gittins")  # which then is LAS, looked at less often
    assert found["las"] == min(found.values())
    assert found["las"] < 0.6 * found["fcfs"]
    assert gittins == pytest.approx(found["las"], rel=0.1)


def test_fcfs_is_best_without_sizes_where_all_are_alike_and_gittins_is_fcfs():
    trace = queue(drawn("deterministic", 5_000), 0.8, seed=32)
    fcfs, las = responses("fcfs", trace), responses("las", trace)
    assert las.mean() > 1.3 * fcfs.mean()
    assert np.array_equal(responses("gittins:lengths=trace,quantum=1,ratio=1.05", trace), fcfs)


def test_gittins_is_best_without_sizes_where_the_hazard_rate_rises_and_falls():
    found = means("two-point", (*BLIND, "srpt"))
    srpt = found.pop("srpt")
    assert srpt <= found["gittins"] == min(found.values())
    assert found["gittins"] < 0.97 * found["las"]
    assert found["gittins"] < 0.7 * found["fcfs"]


def test_las_responds_as_schrage_says():
    """E[T(x)] = (λ·E[min(S, x)²]/2)/(1 − ρ_x)² + x/(1 − ρ_x), with ρ_x = λ·E[min(S, x)]."""
    lengths = np.maximum(1, np.rint(np.random.default_rng(6).exponential(60, 15_000))).astype(int)
    trace = queue(lengths, 0.7, seed=33)
    service, rate = lengths * STEP_S, len(trace) / trace["arrival_s"].max()
    sizes, counts = np.unique(service, return_counts=True)
    cut = np.minimum(service[None, :], sizes[:, None])
    load, second = rate * cut.mean(axis=1), rate * (cut**2).mean(axis=1)
    formula = float((counts / counts.sum()) @ (second / 2 / (1 - load) ** 2 + sizes / (1 - load)))
    assert met(responses("las", trace), formula)
