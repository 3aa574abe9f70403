"""Estimates are made and corrected only with what had come back."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from toolkit import drift_json
from toolkit.analysis.drift_estimate import calibrated, feedbacks

Ask = Callable[..., dict[str, pl.DataFrame]]


def test_a_factor_knows_only_what_ended_before_the_arrival() -> None:
    arrival, finish = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 1.5, 9.0, 9.0])
    actual, base = np.array([200.0, 50.0, 10.0, 10.0]), np.full(4, 100.0)
    plan = feedbacks(np.zeros(4, dtype=np.int64), arrival, finish, np.ones(4, dtype=bool))
    after_second = 0.9 + 0.1 * 0.5  # the second request ended first
    after_both = 0.9 * after_second + 0.1 * 2.0
    assert calibrated(base, actual, plan) == pytest.approx([1, 1, after_second, after_both])


def test_ratios_are_clamped_and_classes_learn_apart() -> None:
    arrival = np.array([0.0, 0.0, 5.0, 5.0])
    plan = feedbacks(np.array([0, 1, 0, 1]), arrival, arrival + 1, np.ones(4, dtype=bool))
    factor = calibrated(np.full(4, 10.0), np.array([1000.0, 0.0, 1.0, 1.0]), plan)
    assert factor == pytest.approx([1, 1, 0.9 + 0.1 * 3, 0.9 + 0.1 * 0.25])


def test_calibration_removes_a_constant_bias_of_the_traces_own_estimates(ask: Ask) -> None:
    rng, n = np.random.default_rng(2), 4000
    actual = rng.integers(80, 120, n)
    tables = ask(
        "drift",
        request_id=np.arange(n),
        arrival_s=np.arange(n) * 1.0,
        output_tokens=actual,
        predicted_output_tokens=[200 if i % 3 else None for i in range(n)],
        tenant=["t1", "t2"] * (n // 2),
        source_e2e_s=[1.0] * n,
    )
    rows = tables["estimate"].filter(pl.col("estimator") == "trace", pl.col("by") == "all")
    static, ema = (rows.filter(pl.col("calibration") == c).row(0, named=True) for c in ("static", "ema"))
    assert static["requests"] == ema["requests"] == pytest.approx(0.9 * n * 2 / 3, abs=2)
    assert static["bias"] == pytest.approx(100, abs=1)
    assert abs(ema["bias"]) < 3
    assert ema["mae"] < 0.2 * static["mae"]
    assert tables["feedback"]["feedback"][0] == "measured by the source"
    assert set(tables["estimate"].filter(pl.col("by") == "tenant")["name"]) == {"t1", "t2"}


def test_an_estimator_that_drifts_alone_is_found(ask: Ask) -> None:
    rng, n = np.random.default_rng(2), 5000
    actual = rng.lognormal(5, 1, n)
    predicted = actual * np.exp(0.4 * rng.standard_normal(n)) * np.where(np.arange(n) < 3000, 1, 0.7)
    tables = ask(
        "drift",
        request_id=np.arange(n),
        arrival_s=np.arange(n) * 1.0,
        output_tokens=actual.astype(int) + 1,
        predicted_output_tokens=predicted.astype(int) + 1,
    )
    shape = drift_json.shape(tables)
    assert (shape["output_tokens"]["verdict"], shape["estimate"]["verdict"]) == ("none", "drift")
    assert min(abs(point["request_id"] - 3000) for point in shape["estimate"]["change_points"]) < 100
    assert shape["mix"] == {}


def test_the_papers_estimate_keeps_safety_and_input_as_bias(ask: Ask) -> None:
    n = 2000
    tables = ask(
        "drift",
        request_id=np.arange(n),
        arrival_s=np.arange(n) * 1.0,
        output_tokens=[100] * (n // 2) + [101] * (n // 2),
        prompt_tokens=[1000] * n,
        tier=["premium"] * n,
    )
    rows = tables["estimate"].filter(pl.col("estimator") == "paper", pl.col("calibration") == "static")
    assert rows["bias"][0] == pytest.approx(100 * 1.2 * 1.5 - 100, abs=1.5)
    assert "assumed" in tables["feedback"]["feedback"][0]
