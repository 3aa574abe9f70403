"""Arrivals have the rate, burstiness and states that were asked for, within computed bounds."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.protocols import Planted
from workloads.generators.gamma import Gamma
from workloads.generators.groups import Group, Groups, Shift
from workloads.generators.markov import Markov, State
from workloads.generators.names import Names
from workloads.generators.on_off import OnOff
from workloads.generators.poisson import Poisson
from workloads.generators.renewal import Gaps, Sampled, renewal, steady
from workloads.generators.rhythm import Daily, RateChange, Rhythm
from workloads.generators.weibull import Weibull

SIGMAS = 4.5  # of a normal: 7 in a million


def arrivals(generator: Any, span_s: float, seed: int = 1, rhythm: Rhythm | None = None) -> np.ndarray:
    planted: Planted = generator.plant(span_s, rhythm or Rhythm(), np.random.default_rng(seed))
    edges = np.linspace(0, span_s, 7)[1:]
    return np.concatenate([frame["arrival_s"].to_numpy() for frame in planted.requests(edges)])


@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(0.5, 50),
    cv=st.floats(0.2, 4),
    family=st.sampled_from(["gamma", "weibull"]),
    seed=st.integers(0, 2**32),
)
def test_a_renewal_process_has_its_rate_and_its_cv(rate: float, cv: float, family: str, seed: int) -> None:
    """N(t) is asymptotically normal with variance cv²·t·rate; the CV's own error is taken from its blocks."""
    span_s = 20_000 / rate
    times = arrivals(Gamma(rate, cv) if family == "gamma" else Weibull(rate, cv), span_s, seed)
    assert abs(len(times) - 20_000) < SIGMAS * max(cv, 0.3) * 20_000**0.5 + 5
    gaps = np.diff(times)
    blocks = np.array([b.std() / b.mean() for b in np.array_split(gaps, 20)])
    assert abs(gaps.std() / gaps.mean() - cv) < SIGMAS * blocks.std() / 20**0.5 + 0.05 * cv


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.floats(0, 1), max_size=8), seed=st.integers(0, 2**32), cv=st.floats(0.3, 3))
def test_edges_do_not_change_the_process(cuts: list[float], seed: int, cv: float) -> None:
    rhythm = Rhythm(daily=Daily(0.8, 3_000), changes=(RateChange(2_000, 3.0, "ramp", 1_000),))

    def run(edges: Iterable[float]) -> np.ndarray:
        process = renewal(edges, steady(0.5, rhythm), Gaps("gamma", cv), np.random.default_rng(seed))
        return np.concatenate(list(process))

    whole, parts = run([7_000.0]), run([*sorted(7_000 * c for c in cuts), 7_000.0])
    assert len(whole) == len(parts)
    assert np.allclose(whole, parts, rtol=0, atol=1e-6)


def test_poisson_counts_are_poisson() -> None:
    counts = np.bincount(arrivals(Poisson(5.0), 20_000).astype(int), minlength=20_000)
    assert abs(counts.mean() - 5) < SIGMAS * (5 / 20_000) ** 0.5
    assert abs(counts.var() / counts.mean() - 1) < SIGMAS * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("family", ["exponential", "gamma", "weibull"])
def test_a_process_begins_as_if_it_had_always_run(family: Any) -> None:
    """With long uneven gaps a process that began with a whole gap would start too seldom."""
    gaps = Gaps(family, 1.0 if family == "exponential" else 3.0)
    counts = []
    for seed in range(4_000):
        (times,) = renewal([1.0], steady(1.0), gaps, np.random.default_rng(seed))
        counts.append(len(times))
    assert abs(np.mean(counts) - 1) < SIGMAS * np.std(counts) / 4_000**0.5


def test_sampled_gaps_come_back() -> None:
    values = np.sort(np.random.default_rng(1).lognormal(0, 1.0, 500))
    (times,) = renewal([100_000.0], steady(1.0), Sampled(values), np.random.default_rng(2))
    gaps = np.diff(times)
    assert abs(len(times) / 100_000 - 1) < 0.03
    assert np.quantile(gaps, [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(values, [0.1, 0.5, 0.9]) / values.mean(), rel=0.05
    )


def test_the_day_the_week_and_changes_shape_the_rate() -> None:
    day = 86_400.0
    rhythm = Rhythm(Daily(0.5, peak_s=43_200), (1, 1, 1, 1, 1, 0, 0), (RateChange(day, 2.0, "step"),))
    times = arrivals(Poisson(0.5), 7 * day, rhythm=rhythm)
    per_day = np.bincount((times // day).astype(int), minlength=7)
    expected = 0.5 * day * 1.4 * np.array([1, 2, 2, 2, 2, 0, 0])
    assert (abs(per_day - expected) < SIGMAS * expected**0.5 + 1e-9).all()
    noon = np.sum(abs(times[times < day] - 43_200) < 3_600)
    midnight = np.sum((times < 3_600) | ((times > day - 3_600) & (times < day)))
    assert noon / midnight == pytest.approx(1.4947 / 0.5053, rel=0.15)
    assert Daily(hours=tuple([0.0] * 23 + [1.0])).at(np.array([0.0, 85_000.0])).tolist() == [0.0, 24.0]


def test_states_of_a_markov_process_have_their_rates_and_shares_of_time() -> None:
    process = Markov((State(0.0, 100.0), State(10.0, 50.0, "hot")))
    planted = process.plant(50_000, Rhythm(), np.random.default_rng(3))
    times = np.concatenate([f["arrival_s"].to_numpy() for f in planted.requests([50_000.0])])
    states = planted.truth.filter(pl.col("what") == "state")
    hot = states.filter(pl.col("name") == "hot")
    hot_s = (hot["end_s"] - hot["start_s"]).sum()
    assert (states["end_s"] - states["start_s"]).sum() == pytest.approx(50_000)
    assert hot_s / 50_000 == pytest.approx(1 / 3, abs=0.06)
    assert abs(len(times) - 10 * hot_s) < SIGMAS * (10 * hot_s) ** 0.5
    at = np.searchsorted(hot["start_s"].to_numpy(), times, side="right") - 1
    assert (times <= hot["end_s"].to_numpy()[at] + 1e-6).all(), "a request outside the hot state"


@pytest.mark.parametrize("lasting", ["fixed", "exponential", "pareto"])
def test_on_off_sends_only_while_on(lasting: Any) -> None:
    planted = OnOff(4.0, 60.0, 180.0, lasting, phase_s=30.0).plant(40_000, Rhythm(), np.random.default_rng(5))
    times = np.concatenate([f["arrival_s"].to_numpy() for f in planted.requests([40_000.0])])
    on = planted.truth.filter(pl.col("what") == "state")
    at = np.searchsorted(on["start_s"].to_numpy(), times, side="right") - 1
    assert (times <= on["end_s"].to_numpy()[at] + 1e-6).all()
    on_s = (on["end_s"] - on["start_s"]).sum()
    assert abs(len(times) - 4 * on_s) < SIGMAS * (4 * on_s) ** 0.5
    if lasting == "fixed":  # a Pareto length of this shape has no variance to bound its share by
        assert on.select("start_s", "end_s").head(2).rows() == [(0.0, 30.0), (210.0, 270.0)]
    elif lasting == "exponential":
        assert on_s / 40_000 == pytest.approx(0.25, abs=0.12)


def planted_groups(**changes: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    group = Group(2.0, 600.0, 60.0, ("m0", "m1", "m2"), name="g", **changes)
    generator = Groups(Names(count=6, name="m{}"), 0.06, (group,))
    planted = generator.plant(30_000, Rhythm(), np.random.default_rng(11))
    return pl.concat(planted.requests([10_000.0, 30_000.0])), planted.truth


def inside(requests: pl.DataFrame, spans: pl.DataFrame) -> pl.Series:
    """Whether each request lies in one of the spans, which do not overlap."""
    at = np.searchsorted(spans["start_s"].to_numpy(), requests["arrival_s"].to_numpy(), side="right") - 1
    return pl.Series((at >= 0) & (requests["arrival_s"].to_numpy() < spans["end_s"].to_numpy()[at]))


def test_members_burst_in_the_episodes_and_others_do_not() -> None:
    requests, truth = planted_groups()
    episodes = truth.filter(pl.col("what") == "episode")
    busy_s = (episodes["end_s"] - episodes["start_s"]).sum()
    assert 35 < len(episodes) < 70
    for model in (f"m{i}" for i in range(6)):
        own = requests.filter(pl.col("model") == model)
        within = inside(own, episodes).sum()
        expected = (0.01 + (2.0 if model < "m3" else 0.0)) * busy_s
        assert abs(within - expected) < SIGMAS * expected**0.5 + 2, model
        assert abs(len(own) - within - 0.01 * (30_000 - busy_s)) < SIGMAS * 300**0.5, model


def test_participation_and_jitter_are_as_set_and_told() -> None:
    _, truth = planted_groups(participation=0.6, jitter_s=5.0)
    busy, episodes = (truth.filter(pl.col("what") == what) for what in ("busy", "episode"))
    share = len(busy) / (3 * len(episodes))
    assert abs(share - 0.6) < SIGMAS * (0.24 / (3 * len(episodes))) ** 0.5
    near = busy.sort("start_s").join_asof(episodes.sort("start_s"), on="start_s", strategy="nearest", coalesce=False)
    off = (near["start_s"] - near["start_s_right"]).to_numpy()
    assert off.std() == pytest.approx(5.0, rel=0.3)


def test_membership_shifts_and_ends_when_told() -> None:
    shifts = (Shift(10_000.0, ("m0", "m4")), Shift(20_000.0, ()))
    requests, truth = planted_groups(shifts=shifts)
    members = truth.filter(pl.col("what") == "member").select("model", "start_s", "end_s").rows()
    assert members == [(m, 0.0, 10_000.0) for m in ("m0", "m1", "m2")] + [(m, 10_000.0, 20_000.0) for m in ("m0", "m4")]
    counts = (
        requests.with_columns(third=(pl.col("arrival_s") // 10_000).cast(pl.Int32)).group_by("model", "third").len()
    )
    busy = set(counts.filter(pl.col("len") > 500).select("model", "third").rows())
    assert busy == {("m0", 0), ("m1", 0), ("m2", 0), ("m0", 1), ("m4", 1)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"groups": (Group(1.0, 600.0, 60.0, ("m9",)),)},
        {"groups": (Group(1.0, 600.0, 60.0, size=7),)},
        {"background_per_s": 0.0},
    ],
)
def test_groups_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no model 'm9'|7, and 6 models|above 0"):
        Groups(**{"models": Names(count=6, name="m{}"), "background_per_s": 1.0, **wrong})
