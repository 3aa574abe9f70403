"""Lengths against numpy, scipy and planted distributions."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from toolkit.counted import Counted
from toolkit.fits import FAMILIES, compare, pareto_tail


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.floats(0, 1))
def test_counted_statistics_are_numpys(values: list[int], q: float) -> None:
    sample = Counted.of_integers(pl.Series("v", values, dtype=pl.Int32))
    assert sample.n == len(values)
    assert sample.mean == pytest.approx(np.mean(values))
    assert float(sample.quantile(q)) == pytest.approx(np.quantile(values, q))
    assert sample.std == (pytest.approx(np.std(values, ddof=1)) if len(values) > 1 else None)
    sorted_twin = Counted.of_sorted(np.sort(np.asarray(values, dtype=float)))
    assert (sorted_twin.values == sample.values).all()
    assert (sorted_twin.counts == sample.counts).all()


@pytest.mark.parametrize("family", ["exponential", "gamma", "weibull", "lognormal"])
def test_likelihood_and_distance_are_scipys(family: str) -> None:
    values = np.round(np.random.default_rng(2).gamma(0.7, 300, 3_000)) + 1
    sample = Counted.of_sorted(np.sort(values))
    fit = FAMILIES[family](sample)
    twin = {
        "exponential": stats.expon(0, fit.scale),
        "gamma": stats.gamma(fit.shape, 0, fit.scale),
        "weibull": stats.weibull_min(fit.shape or 1, 0, fit.scale),
        "lognormal": stats.lognorm(fit.shape, 0, fit.scale),
    }[family]
    assert fit.log_likelihood == pytest.approx(twin.logpdf(values).sum())
    assert fit.mean == pytest.approx(twin.mean())
    table = compare(sample, [family])
    assert table["ks"][0] == pytest.approx(stats.ks_1samp(values, twin.cdf).statistic, abs=1e-4)


@pytest.mark.parametrize("family", ["gamma", "weibull", "lognormal"])
def test_no_nearby_parameters_are_likelier(family: str) -> None:
    values = np.random.default_rng(3).weibull(1.4, 2_000)
    fit = FAMILIES[family](Counted.of_sorted(np.sort(values)))
    law = {"gamma": stats.gamma, "weibull": stats.weibull_min, "lognormal": stats.lognorm}[family]
    for shape in (0.99, 1.01):
        for scale in (0.99, 1.01):
            assert law(fit.shape * shape, 0, fit.scale * scale).logpdf(values).sum() < fit.log_likelihood


def test_a_pareto_tail_is_found_where_it_starts() -> None:
    rng = np.random.default_rng(4)
    body, tail = rng.uniform(1, 100, 8_000), 100 * (1 + rng.pareto(1.6, 8_000))
    found = pareto_tail(Counted.of_sorted(np.sort(np.r_[body, tail])))
    assert found is not None
    fit, covered = found
    assert fit.shape == pytest.approx(1.6, rel=0.06)
    assert 95 < fit.scale < 160
    assert covered == (np.r_[body, tail] >= fit.scale).sum()


def test_correlations_are_scipys(ask) -> None:
    rng = np.random.default_rng(5)
    prompt = rng.integers(1, 60, 500)
    output = prompt * rng.integers(1, 9, 500)
    table = ask("lengths", prompt_tokens=prompt, output_tokens=output)["correlation"]
    values = dict(table.select("method", "value").iter_rows())
    assert values["pearson"] == pytest.approx(stats.pearsonr(prompt, output).statistic)
    assert values["spearman"] == pytest.approx(stats.spearmanr(prompt, output).statistic)
    interval = stats.pearsonr(prompt, output).confidence_interval()
    assert table.row(0)[2:4] == pytest.approx((interval.low, interval.high), rel=1e-5)


def test_constant_lengths_have_no_correlation_and_no_fit(ask) -> None:
    tables = ask("lengths", prompt_tokens=[128] * 50, output_tokens=list(range(50)))
    assert tables["correlation"].is_empty()
    assert tables["fits"].filter(pl.col("column") == "prompt_tokens").is_empty()
    assert tables["summary"]["std"].to_list()[0] == 0


@given(st.lists(st.one_of(st.none(), st.integers(0, 200_000)), min_size=1, max_size=50))
def test_histogram_holds_every_request_once(values: list[int | None]) -> None:
    from toolkit.analysis.lengths import histogram

    present = [v for v in values if v is not None]
    if not present:
        return
    bins = histogram("prompt_tokens", Counted.of_integers(pl.Series("v", values, dtype=pl.Int32)))
    assert bins["requests"].sum() == len(present)
    assert (bins["low"][1:] == bins["high"][:-1]).all()
    for low, high, requests in bins.select("low", "high", "requests").iter_rows():
        assert requests == sum(low <= v < high for v in present)


def test_nulls_and_zeros_are_counted_not_measured(ask) -> None:
    row = ask("lengths", output_tokens=[0, None, 4, 8])["summary"].row(0, named=True)
    assert (row["column"], row["requests"], row["missing"], row["zeros"]) == ("output_tokens", 3, 1, 1)
    assert (row["mean"], row["p50"], row["max"]) == (4, 4, 8)
