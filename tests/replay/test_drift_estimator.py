"""DriftSched's estimates against what can be worked out by hand."""

import polars as pl
import pytest

from replay.schedulers.drift_estimator import CLASS_BASE, Calibration, DriftEstimator, categories
from tests.replay.simulations import make_trace
from toolkit.errors import SettingFailure


def rows(*requests: tuple[float, str, str, int]) -> pl.DataFrame:
    """Requests as (arrival, model, tier, prompt tokens), of kind short_qa."""
    names = ("arrival_s", "model", "tier", "prompt_tokens")
    return make_trace(
        [dict(zip(names, row, strict=True)) | {"kind": "short_qa", "output_tokens": 1} for row in requests]
    )


def ended(*outcomes: tuple[int, float, int]) -> pl.DataFrame:
    """What has ended as (request_id, finish, output tokens)."""
    frame = pl.DataFrame(outcomes, schema=["request_id", "finish_s", "output_tokens"], orient="row")
    return frame.with_columns(status=pl.lit("ok"))


def test_a_budget_is_base_times_bias_safety_and_input_factor() -> None:
    estimator = DriftEstimator("paper", "tokens", True, 0.75, "none")
    trace = rows((0, "a", "premium", 100), (0, "a", "batch", 2000), (0, "a", "other", 10))
    assert estimator.estimate(trace).tolist() == [int(64 * 1.2 * 1.1), int(64 * 0.8 * 1.5), int(64 * 1.01)]
    assert estimator.budget(trace).tolist() == [100 + 84, 2000 + 76, 10 + 64]


def test_the_bias_follows_clamped_ratios_and_words_are_cut_to_whole_ones() -> None:
    estimator = DriftEstimator("paper", "words", True, 0.75, "none")
    trace = rows(*((float(n), "a", "standard", 0) for n in range(4)))
    estimator.estimate(trace)
    estimator.learn(ended((1, 0.5, 1000), (0, 0.4, 30)))
    first = 0.9 + 0.1 * (22 / 64)  # 30 tokens are 22.5 words
    second = 0.9 * first + 0.1 * 3.0
    assert estimator.paths()["short_qa"] == ([0.4, 0.5], pytest.approx([first, second]))
    assert estimator.estimate(trace).tolist() == [64, int(64 * second)] + [int(64 * second)] * 2


def test_an_estimate_knows_what_had_ended_when_its_request_arrived_and_no_more() -> None:
    estimator = DriftEstimator("paper", "tokens", True, 0.75, "none")
    trace = rows(*((float(n), "a", "standard", 0) for n in range(5)))
    estimator.estimate(trace)
    estimator.learn(ended((0, 2.0, 16), (1, 3.5, 16)))
    once, twice = 0.9 + 0.025, 0.9 * 0.925 + 0.025
    assert estimator.estimate(trace).tolist() == [64, 64, int(64 * once), int(64 * once), int(64 * twice)]


def test_a_trace_class_goes_by_its_mean_or_else_by_the_mean_of_all() -> None:
    estimator = DriftEstimator("trace", "tokens", False, 0.75, "model")
    trace = rows((0, "a", "standard", 0), (0, "b", "standard", 0), (5, "a", "standard", 0), (6, "c", "standard", 0))
    assert estimator.estimate(trace).tolist() == [CLASS_BASE] * 4
    estimator.learn(ended((0, 1.0, 100), (1, 2.0, 300)))
    assert estimator.estimate(trace).tolist() == [CLASS_BASE, CLASS_BASE, 100, 200]


def test_without_adapting_the_base_still_follows_and_the_bias_stays() -> None:
    still = Calibration(10.0)
    still.learn(100.0, 1.0, follow=False, mean=True)
    assert (still.base, still.bias, still.at(1.0), still.at(0.9)) == (100.0, 1.0, 100.0, None)


def test_what_is_told_late_counts_from_then() -> None:
    calibration = Calibration(64.0)
    calibration.learn(64.0, 5.0, follow=True, mean=False)
    calibration.learn(128.0, 4.0, follow=True, mean=False)
    assert calibration.when == [5.0, 5.0]


def test_categories_are_by_kind_then_by_keywords_with_ties_in_the_codes_order() -> None:
    prompts = ["What is it?", "Give a SUMMARY", "a detailed summary", "code of the architecture, in a report", None]
    trace = make_trace([{"arrival_s": 0.0, "prompt": text, "kind": None} for text in prompts])
    assert categories(trace).tolist() == [0, 1, 1, 2, 0]
    assert categories(trace.with_columns(kind=pl.lit("report"))).tolist() == [3] * 5


def test_presets_and_units_are_checked() -> None:
    with pytest.raises(SettingFailure, match="no preset 'papr'"):
        DriftEstimator("papr", "tokens", True, 0.75, "none")
    with pytest.raises(SettingFailure, match="no unit 'word'"):
        DriftEstimator("paper", "word", True, 0.75, "none")
