"""Intervals of quantiles cover what they claim, and differences of quantiles are found where they are."""

import numpy as np
import pytest
from scipy.special import bdtr

from toolkit.stats import bootstrap_quantile_difference, bootstrap_quantile_interval, quantile_interval


@pytest.mark.parametrize(("n", "q"), [(20, 0.5), (100, 0.5), (300, 0.9), (5000, 0.99), (100_000, 0.999)])
def test_ranks_are_the_narrowest_that_hold_each_tail(n: int, q: float) -> None:
    low, high = quantile_interval(np.arange(1, n + 1), q)
    assert bdtr(low - 1, n, q) <= 0.025 < bdtr(low, n, q)
    assert bdtr(high - 2, n, q) < 0.975 <= bdtr(high - 1, n, q)


def test_an_end_that_the_sample_cannot_bound_is_nan() -> None:
    low, high = quantile_interval(np.arange(1, 101), 0.99)
    assert low == 97
    assert np.isnan(high)
    assert np.isnan(quantile_interval([], 0.5)).all()


def test_block_bootstrap_of_independent_values_is_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(size=400)
    plain = [np.quantile(rng.choice(values, 400), 0.9) for _ in range(3000)]
    ours = bootstrap_quantile_interval(values, 0.9, rng, blocks=400, resamples=3000)
    assert ours == pytest.approx(np.quantile(plain, [0.025, 0.975]), rel=0.05)


def test_blocks_widen_the_interval_of_dependent_values() -> None:
    rng = np.random.default_rng(4)
    values = np.repeat(rng.exponential(size=100), 50)
    apart = np.diff(bootstrap_quantile_interval(values, 0.5, rng, blocks=5000))[0]
    together = np.diff(bootstrap_quantile_interval(values, 0.5, rng, blocks=100))[0]
    assert together > 3 * apart


def test_pairing_cancels_what_both_samples_share() -> None:
    rng = np.random.default_rng(5)
    a = rng.exponential(size=4000)
    b = a + 0.02
    loose = bootstrap_quantile_difference(a, b, 0.9, rng)
    paired = bootstrap_quantile_difference(a, b, 0.9, rng, paired=True)
    assert not loose.shown
    assert paired.shown
    assert paired.difference == pytest.approx(0.02)
    assert paired.difference_low == pytest.approx(0.02) == paired.difference_high


def test_missing_values_are_left_out_and_lengths_must_match_when_paired() -> None:
    rng = np.random.default_rng(6)
    a = np.array([1.0, np.nan, 3.0, 5.0])
    assert bootstrap_quantile_difference(a, a, 0.5, rng, paired=True).a == 3.0
    assert np.isnan(bootstrap_quantile_difference(a, [np.nan], 0.5, rng).difference)
    with pytest.raises(ValueError, match="differ in length"):
        bootstrap_quantile_difference(a, a[:2], 0.5, rng, paired=True)
