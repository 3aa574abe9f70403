"""Arrivals against closed forms, planted distributions and a naive count."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toolkit.analysis.conftest import dispersion
from toolkit.analysis import gaps
from toolkit.analysis.windows import whole_windows
from toolkit.ticked_fits import FAMILIES, probabilities


def poisson(n: int, rate: float, seed: int = 1) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def test_poisson_arrivals_look_poisson(ask) -> None:
    tables = ask("arrivals", arrival_s=poisson(60_000, 10.0))
    row = tables["summary"].row(0, named=True)
    assert row["gap_cv"] == pytest.approx(1, abs=0.02)
    assert row["rate_per_s"] == pytest.approx(10, rel=0.02)
    assert row["zero_gap_share"] == 0
    table = tables["dispersion"]
    assert table["window_s"].to_list() == [0.1, 1, 10, 60, 600]
    within = (table["index"] > table["poisson_low"]) & (table["index"] < table["poisson_high"])
    assert within.sum() >= 4  # each holds with 95 %


@pytest.mark.parametrize(
    ("family", "draw", "shape", "scale"),
    [
        ("gamma", lambda rng, n: rng.gamma(0.4, 3.0, n), 0.4, 3.0),
        ("weibull", lambda rng, n: 2.0 * rng.weibull(0.6, n), 0.6, 2.0),
        ("lognormal", lambda rng, n: rng.lognormal(0.5, 1.3, n), 1.3, np.exp(0.5)),
        ("exponential", lambda rng, n: rng.exponential(2.0, n), None, 2.0),
    ],
)
def test_planted_gaps_are_found_again(ask, family, draw, shape, scale) -> None:
    gaps = draw(np.random.default_rng(7), 50_000)
    fits = ask("arrivals", arrival_s=np.cumsum(gaps))["gap_fits"]
    planted = fits.row(by_predicate=pl.col("family") == family, named=True)
    assert planted["delta_aic"] < 4  # the exponential is also a gamma and a Weibull
    assert planted["shape"] == (shape and pytest.approx(shape, rel=0.03))
    assert planted["scale"] == pytest.approx(scale, rel=0.05)
    assert planted["ks"] < 1.95 / np.sqrt(len(gaps))
    assert fits["delta_aic"].is_sorted()


@given(
    gaps=st.lists(st.integers(0, 40), min_size=5, max_size=80),
    window=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_dispersion_is_the_naive_one(gaps: list[int], window: float) -> None:
    ticks = np.cumsum([0, *gaps])
    table = dispersion(ticks / 10, None).filter(pl.col("window_s") == window)
    width = round(window * 10)
    windows = ticks[-1] // width
    assert windows == whole_windows(ticks[-1] / 10, window)
    if windows < 5:
        assert table.is_empty()
        return
    counts = [int(((ticks >= i * width) & (ticks < (i + 1) * width)).sum()) for i in range(windows)]
    if sum(counts):
        assert table["index"][0] == pytest.approx(np.var(counts, ddof=1) / np.mean(counts))
        assert table["mean_requests"][0] == pytest.approx(np.mean(counts))


def test_rates_cover_the_trace_and_count_every_request(ask) -> None:
    arrival_s = poisson(5_000, 3.0)
    rate = ask("arrivals", arrival_s=arrival_s)["rate"]
    assert rate["requests"].sum() == 5_000
    assert rate.height <= 241
    assert (rate["start_s"].diff().drop_nulls() == rate["window_s"][:-1]).all()
    span_s = arrival_s[-1] - arrival_s[0]
    assert rate["start_s"][-1] + rate["window_s"][-1] == pytest.approx(span_s)
    assert rate["rate_per_s"].to_list() == pytest.approx((rate["requests"] / rate["window_s"]).to_list())


@pytest.mark.parametrize("over_s", [0.05, 2.4, 2.6, 4.9])
def test_where_a_trace_happens_to_end_makes_no_peak(ask, over_s: float) -> None:
    rate = ask("arrivals", arrival_s=np.append(np.arange(0, 600, 0.1), 600 + over_s))["rate"]
    assert rate["requests"].sum() == 6_001
    assert rate["rate_per_s"].max() == pytest.approx(10, rel=0.01)


def test_a_coarse_clock_refuses_what_it_hides(ask) -> None:
    arrival_s = np.floor(poisson(20_000, 4.0) / 3) * 3
    tables = ask("arrivals", arrival_s=arrival_s, info={"clock_step_s": 3.0})
    row = tables["summary"].row(0, named=True)
    assert row["gap_cv"] is None
    assert "hides the gaps" in row["note"]
    assert tables["gap_fits"].is_empty()
    assert tables["dispersion"]["window_s"].min() == 10
    assert tables["dispersion"]["clock_steps"][0] == pytest.approx(10 / 3)


def test_simultaneous_requests_are_told_apart_from_the_fit(ask) -> None:
    arrival_s = np.repeat(poisson(2_000, 1.0), 2)
    tables = ask("arrivals", arrival_s=arrival_s)
    assert tables["summary"]["zero_gap_share"][0] == pytest.approx(0.5, abs=0.001)
    assert tables["gap_fits"]["gaps"].unique().to_list() == [1_999]


def test_hours_of_the_day_are_counted_over_the_time_spent_in_them(ask) -> None:
    arrival_s = np.arange(0, 3 * 86400 + 1, 60.0)
    hourly = ask("arrivals", arrival_s=arrival_s, info={"epoch": "2024-05-01T22:30:00+00:00"})["hourly"]
    assert hourly["clock"].unique().to_list() == ["UTC"]
    assert hourly["hours"].to_list() == pytest.approx([3.0] * 24)
    assert hourly["rate_per_s"].to_list() == pytest.approx([1 / 60] * 24, rel=0.01)
    assert ask("arrivals", arrival_s=arrival_s[:2000])["hourly"].is_empty()


def test_a_trace_without_times_or_with_one_instant_has_no_rate(ask) -> None:
    assert ask("arrivals", arrival_s=[None, None])["summary"].is_empty()
    row = ask("arrivals", arrival_s=[5.0, 5.0])["summary"].row(0, named=True)
    assert row["requests"] == 2
    assert row["rate_per_s"] is None


@pytest.mark.parametrize(
    ("family", "draw", "shape", "scale"),
    [
        ("gamma", lambda rng, n: rng.gamma(0.4, 5.0, n), 0.4, 5.0),
        ("weibull", lambda rng, n: 2.0 * rng.weibull(0.7, n), 0.7, 2.0),
        ("lognormal", lambda rng, n: rng.lognormal(0.2, 1.1, n), 1.1, np.exp(0.2)),
        ("exponential", lambda rng, n: rng.exponential(1.5, n), None, 1.5),
    ],
)
def test_planted_gaps_are_found_through_a_coarse_clock(ask, family, draw, shape, scale) -> None:
    arrival_s = np.floor(np.cumsum(draw(np.random.default_rng(11), 60_000)))
    tables = ask("arrivals", arrival_s=arrival_s, info={"clock_step_s": 1.0})
    assert "fitted as steps" in tables["summary"]["note"][0]
    planted = tables["gap_fits"].row(by_predicate=pl.col("family") == family, named=True)
    assert planted["gaps"] == 59_999
    assert planted["delta_aic"] < 4
    assert planted["shape"] == (shape and pytest.approx(shape, rel=0.05))
    assert planted["scale"] == pytest.approx(scale, rel=0.06)
    assert planted["ks"] < 0.01


@pytest.mark.parametrize("family", ["exponential", "gamma", "weibull", "lognormal"])
def test_probabilities_of_ticks_add_up_and_match_a_simulation(family: str) -> None:
    rng = np.random.default_rng(12)
    draw = {
        "exponential": lambda n: rng.exponential(1.3, n),
        "gamma": lambda n: rng.gamma(0.8, 1.3, n),
        "weibull": lambda n: 1.3 * rng.weibull(0.8, n),
        "lognormal": lambda n: 1.3 * rng.lognormal(0, 0.8, n),
    }[family]
    ticks = np.arange(2000.0)
    p = probabilities(ticks, lambda x: FAMILIES[family](x, 0.8, 1.3))
    assert p.sum() == pytest.approx(1)
    read = np.floor(rng.random(400_000) + draw(400_000))
    observed = np.bincount(read.astype(int), minlength=5)[:5] / 400_000
    assert observed == pytest.approx(p[:5], abs=0.003)


def test_many_gaps_are_counted_to_one_part_in_4096_without_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    each = rng.exponential(0.01, 50_000) * rng.choice([0, 1, 1, 1], 50_000)
    arrival_s = np.cumsum(each)
    exact = gaps.Gaps.between(arrival_s, exact=True).counted
    monkeypatch.setattr(gaps, "SLICE", 7_000)
    binned = gaps.Gaps.between(arrival_s, exact=False).counted
    assert (binned.n, binned.counts[0], binned.values[0]) == (exact.n, exact.counts[0], 0)
    assert (binned.values[1], binned.values[-1]) == (exact.values[1], exact.values[-1])
    assert binned.quantile([0.3, 0.5, 0.99]) == pytest.approx(exact.quantile([0.3, 0.5, 0.99]), rel=2**-12)
    assert (binned.mean, binned.std) == pytest.approx((exact.mean, exact.std), rel=1e-4)
    assert len(binned.values) < len(exact.values)
    assert gaps.Gaps.between(np.zeros(5_000), exact=False).counted.n == 4_999
