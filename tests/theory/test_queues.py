"""With one slot the simulated engine is a queue of textbooks; its means meet their formulas within their own error.

A request of one prompt token and n output tokens takes n steps of equal length, so output lengths are service times.
Intervals are batch means over 30 stretches of the run, at 4 standard errors: about one false alarm in 15,000.
"""

import numpy as np
import polars as pl
import pytest

from replay.schedulers.fcfs import FCFS
from replay.schedulers.priority import Priority
from replay.schedulers.sjf import SJF
from replay.schedulers.srpt import SRPT
from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, make_trace, simulate

REQUESTS = 60_000
STEP_S = 0.001
ONE_SLOT = Limits(kv_blocks=10_000, max_num_seqs=1, max_num_batched_tokens=8_192, prefix_caching=False)
LATENCY = Affine(step_s=STEP_S, token_s=0.0)


def lengths(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Output tokens with a mean near 200: enough steps for the discrete time to be lost in the noise."""
    if kind == "exponential":
        return np.maximum(1, np.rint(rng.exponential(200, REQUESTS))).astype(int)
    if kind == "deterministic":
        return np.full(REQUESTS, 200)
    return np.where(rng.random(REQUESTS) < 0.9, 50, 1_550)  # two points, CV² about 5


def queue(kind: str, load: float, seed: int, tiers: bool = False) -> pl.DataFrame:
    """A Poisson trace that offers `load` to one slot."""
    rng = np.random.default_rng(seed)
    output = lengths(kind, rng)
    arrival = np.cumsum(rng.exponential(output.mean() * STEP_S / load, REQUESTS))
    tier = np.where(rng.random(REQUESTS) < 0.3, "premium", "batch")
    rows = pl.DataFrame({"arrival_s": arrival, "output_tokens": output, "tier": tier if tiers else None})
    return make_trace(rows.with_columns(prompt_tokens=pl.lit(1)))


def met(values: np.ndarray, formula: float) -> bool:
    """Whether `formula` lies within 4 standard errors (batch means) of the mean of `values`, or 1 %."""
    batches = np.array([batch.mean() for batch in np.array_split(values, 30)])
    error = batches.std(ddof=1) / np.sqrt(len(batches))
    return abs(values.mean() - formula) <= max(4 * error, 0.01 * formula)


def seconds(trace: pl.DataFrame) -> np.ndarray:
    return trace["output_tokens"].to_numpy() * STEP_S


@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["exponential", "deterministic", "two-point"])
def test_fcfs_waits_as_pollaczek_and_khinchine_say(kind, load):
    trace = queue(kind, load, seed=11)
    outcomes = simulate(trace, FCFS(), ONE_SLOT, LATENCY).outcomes
    service = seconds(trace)
    rate = len(trace) / trace["arrival_s"].max()
    formula = rate * (service**2).mean() / (2 * (1 - rate * service.mean()))
    assert met((outcomes["start_s"] - outcomes["arrival_s"]).to_numpy(), formula)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_two_tiers_wait_as_cobham_says(load):
    trace = queue("exponential", load, seed=12, tiers=True)
    outcomes = simulate(trace, Priority(), ONE_SLOT, LATENCY).outcomes
    service, premium = seconds(trace), (trace["tier"] == "premium").to_numpy()
    rate = len(trace) / trace["arrival_s"].max()
    residual = rate * (service**2).mean() / 2
    high = rate * premium.mean() * service[premium].mean()
    wait = (outcomes["start_s"] - outcomes["arrival_s"]).to_numpy()
    assert met(wait[premium], residual / (1 - high))
    assert met(wait[~premium], residual / ((1 - high) * (1 - rate * service.mean())))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_preemptive_tiers_respond_as_the_formula_says(load):
    trace = queue("exponential", load, seed=13, tiers=True)
    outcomes = simulate(trace, Priority(displace=True), ONE_SLOT, LATENCY).outcomes
    service, premium = seconds(trace), (trace["tier"] == "premium").to_numpy()
    rate = len(trace) / trace["arrival_s"].max()
    high = rate * premium.mean() * service[premium].mean()
    residual = rate * premium.mean() * (service[premium] ** 2).mean() / 2
    response = (outcomes["finish_s"] - outcomes["arrival_s"]).to_numpy()
    assert met(response[premium], service[premium].mean() + residual / (1 - high))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_srpt_responds_as_schrage_and_miller_say(load):
    trace = queue("exponential", load, seed=14)
    response = simulate(trace, SRPT(), ONE_SLOT, RESUME_IS_FREE).outcomes
    response = (response["finish_s"] - response["arrival_s"]).to_numpy()
    rate = len(trace) / trace["arrival_s"].max()
    assert met(response, _srpt_mean(seconds(trace), rate))


# A request that lost its place computes its prompt and what it had produced in one step, which counts for its next
# token: with a step that costs the same whatever is in it, losing a place costs nothing.
RESUME_IS_FREE = LATENCY


def _srpt_mean(service: np.ndarray, rate: float) -> float:
    """Mean response of the M/G/1 under SRPT for the empirical service times: waiting plus residence, size by size."""
    sizes, counts = np.unique(service, return_counts=True)
    share = counts / counts.sum()
    below = np.cumsum(share * sizes) * rate  # load of sizes up to x
    second = np.cumsum(share * sizes**2) + (1 - np.cumsum(share)) * sizes**2
    waiting = rate * second / (2 * (1 - below) ** 2)
    widths = np.diff(np.concatenate([[0.0], sizes]))
    residence = np.cumsum(widths / (1 - np.concatenate([[0.0], below[:-1]])))
    return float((share * (waiting + residence)).sum())


def test_srpt_has_the_least_mean_and_sjf_comes_between():
    trace = queue("two-point", 0.8, seed=15)
    means = {}
    for scheduler in (FCFS(), SJF(), SRPT()):
        outcomes = simulate(trace, scheduler, ONE_SLOT, LATENCY).outcomes
        means[type(scheduler).__name__] = (outcomes["finish_s"] - outcomes["arrival_s"]).mean()
    assert means["SRPT"] < means["SJF"] < means["FCFS"]


@pytest.mark.parametrize("kind", ["exponential", "two-point"])
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_steps_that_cost_by_sequence_share_the_processor(kind, load):
    """A step takes as long as it has sequences, so each is served at 1/n: mean response E[S]/(1 - ρ) whatever S is."""
    trace = queue(kind, load, seed=16)
    shared = Limits(kv_blocks=10**6, max_num_seqs=2_000, max_num_batched_tokens=8_192, prefix_caching=False)
    outcomes = simulate(trace, FCFS(), shared, Affine(step_s=0.0, token_s=0.0, sequence_s=STEP_S)).outcomes
    service = seconds(trace)
    rate = len(trace) / trace["arrival_s"].max()
    response = (outcomes["finish_s"] - outcomes["arrival_s"]).to_numpy()
    assert met(response, service.mean() / (1 - rate * service.mean()))
