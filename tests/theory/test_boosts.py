"""Boosts against their closed forms, and the tails they leave in an M/G/1 queue."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from scipy.optimize import brentq

from replay.schedulers.boosting import FULLEST, boost_s, decay_rate
from replay.schedulers.gittins_index import gittins_boost
from replay.schedulers.uniboost import PHASES
from replay.simulation.setup import Limits
from tests.replay import strategies as some
from tests.replay.simulations import Affine, make_trace, simulate
from tests.theory.test_queues import met
from toolkit import plugins

LATENCY = Affine(step_s=0.01, token_s=0.0003, sequence_s=0.0001, kv_token_s=0.00001)


def test_a_boost_is_its_closed_form():
    assert boost_s(3.0, 0.5) == pytest.approx(0.50496, abs=5e-6)
    assert boost_s(1.0, 1.0) == pytest.approx(-np.log(1 - np.exp(-1)))
    assert boost_s(0.0, 0.5) == np.inf
    work = np.array([0.1, 1.0, 10.0])
    assert boost_s(work, 1e-6) * 1e-6 == pytest.approx(-np.log(1e-6 * work), abs=1e-4)  # the order of size
    assert (boost_s(work, np.inf) == 0).all()


def test_the_gittins_boost_of_a_known_size_is_the_boost_of_what_is_left():
    ends = np.array([1.0, 2.0, 3.0, 4.0])
    found = gittins_boost(np.array([0.0, 0.0, 1.0, 0.0]), ends, 0.5)
    assert found[0] == pytest.approx(0.50496, abs=5e-6)
    assert found[:3] == pytest.approx(boost_s(np.array([3.0, 2.0, 1.0]), 0.5))
    assert (found[3:] == 0).all()  # nobody reaches these ages


def test_the_gittins_boost_of_an_exponential_size_does_not_age():
    """ln(1/γ)/γ for a rate of 1, whatever the age: 8.05 for γ = 0.2."""
    width = 0.02
    ends = width * np.arange(1, 2001)
    shares = np.diff(-np.exp(-np.concatenate([[0.0], ends])))
    found = gittins_boost(shares / shares.sum(), ends, 0.2)
    assert found[:250] == pytest.approx(np.full(250, np.log(5) / 0.2), abs=0.06)


def test_bins_keep_the_noise_of_a_sample_out_of_the_boost():
    sample = np.random.default_rng(3).exponential(1.0, 20_000)
    errors = []
    for width in (0.25, 0.01):
        ends = width * np.arange(1, int(16 / width))
        true = np.diff(-np.exp(-np.concatenate([[0.0], ends])))
        seen = np.histogram(sample, np.concatenate([[0.0], ends]))[0]
        difference = gittins_boost(seen / seen.sum(), ends, 0.2) - gittins_boost(true / true.sum(), ends, 0.2)
        errors.append(np.abs(difference[: int(2 / width)]).max())
    assert errors[0] < 0.6
    assert errors[1] > 1.5


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_the_decay_rate_of_mm1_is_the_rate_that_is_left(load):
    sizes = -np.log(1 - (np.arange(400_000) + 0.5) / 400_000)  # an exponential's quantiles
    assert decay_rate(sizes, load) == pytest.approx(1 - load, rel=0.02)


@pytest.mark.parametrize(("load", "root"), [(0.5, 1.256431), (0.8, 0.430842)])
def test_the_decay_rate_of_md1_is_the_root(load, root):
    assert load * np.expm1(root) == pytest.approx(root, rel=1e-5)
    assert decay_rate(np.ones(7), load) == pytest.approx(root, rel=1e-5)
    assert decay_rate(np.full(7, 10.0), load / 10) == pytest.approx(root / 10, rel=1e-5)


def test_at_a_load_of_one_or_more_the_decay_rate_is_that_of_a_nearly_full_server():
    assert decay_rate(np.ones(7), 3.0) == decay_rate(np.ones(7), FULLEST) > 0


def replayed(spec: str, trace: pl.DataFrame, limits: Limits):
    return simulate(trace, plugins.create("scheduler", spec), limits, LATENCY)


@settings(max_examples=25, deadline=None)
@given(some.traces(), some.limits())
def test_without_a_boost_there_is_fcfs_whatever_the_memory(trace, limits):
    fcfs = replayed("fcfs", trace, limits)
    for spec in (
        *(f"uniboost:phase={phase},gamma=inf,k=4" for phase in PHASES),
        "gittins-boost:gamma=inf",
        "distboost:gamma=inf",
    ):
        found = replayed(spec, trace, limits)
        assert found.outcomes.equals(fcfs.outcomes)
        assert found.events.equals(fcfs.events)


# Known sizes in one slot: prompts of 200 or 800 tokens and one output token, 20 tokens a step.
REQUESTS = 150_000
STEP_S, CHUNK = 0.01, 20
ONE_SLOT = Limits(kv_blocks=1_000, max_num_seqs=1, max_num_batched_tokens=CHUNK, prefix_caching=False)


@pytest.fixture(scope="module")
def light() -> tuple[pl.DataFrame, np.ndarray, float]:
    """(Trace, service times, load): a light tail, so that waiting decays exponentially."""
    rng = np.random.default_rng(21)
    prompt = np.where(rng.random(REQUESTS) < 0.8, 200, 800)
    service = prompt / CHUNK * STEP_S
    arrival = np.cumsum(rng.exponential(service.mean() / 0.8, REQUESTS))
    rows = pl.DataFrame({"arrival_s": arrival, "prompt_tokens": prompt}).with_columns(output_tokens=pl.lit(1))
    return make_trace(rows), service, REQUESTS / arrival[-1]


def constants(service: np.ndarray, rate: float) -> tuple[float, float, float]:
    """(γ, lim P(T > t)·e^{γt} under FCFS, and under the γ-boost of known sizes).

    FCFS: Cramér–Lundberg for the waiting, times E[e^{γS}]. Under the boost a request of size s waits for the work found
    b(s) before its arrival, and for whoever comes later and is put before that: a Poisson sum with
    E[e^{γ·sum}] = exp(λ·E[b(S)·(e^{γS} − 1)]); and e^{−γ·b(s)} = 1 − e^{−γs}.
    """
    gamma = brentq(lambda g: rate * np.expm1(g * service).mean() - g, 1e-3, 20.0)
    waiting = (1 - rate * service.mean()) / (rate * (service * np.exp(gamma * service)).mean() - 1)
    later = np.exp(rate * (-np.log(-np.expm1(-gamma * service)) / gamma * np.expm1(gamma * service)).mean())
    return gamma, waiting * np.exp(gamma * service).mean(), waiting * np.expm1(gamma * service).mean() * later


def exceeds(spec: str, trace: pl.DataFrame, t: float) -> np.ndarray:
    """Whether each request took longer than `t`, in the order of arrival."""
    outcomes = simulate(trace, plugins.create("scheduler", spec), ONE_SLOT, Affine(STEP_S, 0.0)).outcomes
    return ((outcomes["finish_s"] - outcomes["arrival_s"]) > t).to_numpy().astype(float)


@pytest.mark.parametrize("spec", ["distboost", "uniboost:phase=base"])
def test_the_tail_meets_its_closed_form_and_beats_that_of_fcfs(spec, light):
    trace, service, rate = light
    gamma, fcfs_constant, boost_constant = constants(service, rate)
    t = np.log(fcfs_constant / 0.01) / gamma
    fcfs, boosted = exceeds("fcfs", trace, t), exceeds(spec, trace, t)
    assert met(fcfs, fcfs_constant * np.exp(-gamma * t))
    assert met(boosted, boost_constant * np.exp(-gamma * t))
    gains = np.array([batch.mean() for batch in np.array_split(fcfs - boosted, 30)])
    assert gains.mean() > 4 * gains.std(ddof=1) / np.sqrt(30)
