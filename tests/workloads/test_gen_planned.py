"""What is planned for after a trace's end, or for one who sends nothing, is not planted, and is told."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from toolkit.errors import InputFailure, SettingFailure
from toolkit.protocols import Planted
from toolkit.specs import parse
from workloads.generate import generate
from workloads.generate_parts import generate_parts
from workloads.generate_spec import workload
from workloads.generators.composing import Composer


def composed(stream: str, span_s: float) -> Planted:
    given = workload(parse(f"span_s: {span_s}\nstreams:\n{stream}", Path("w.yaml")), "w", "")
    settings, generator = given.streams[0]
    return Composer(settings, 0, np.random.default_rng(5)).compose(generator, span_s)


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        ("- rate_per_s: 2\n  output_tokens: 9\n  drift: [{column: output_tokens, at_s: 20000, factor: 2}]\n", "drift"),
        ("- rate_per_s: 2\n  changes: [{at_s: 20000, factor: 2}]\n", "rate"),
        ("- {generator: groups, models: {count: 2}, background_per_s: 1, groups: ["
         "{size: 1, rate_per_s: 1, every_s: 99, for_s: 9, from_s: 20000}]}\n", "group"),
        ("- {generator: groups, models: {count: 2}, background_per_s: 1, groups: [{members: [model-0], rate_per_s: 1, "
         "every_s: 99, for_s: 9, shifts: [{at_s: 20000, members: []}]}]}\n", "shift"),
    ],
)  # fmt: skip
def test_what_is_planned_for_after_the_end_is_no_truth(stream: str, what: str) -> None:
    planted = composed(stream, 20_000)
    assert planted.truth.filter((pl.col("start_s") >= 20_000) | (pl.col("what") == what)).is_empty()
    assert planted.notes == (f"A {what} planned for 20000 s begins after the trace's end and is left out.",)
    assert composed(stream, 20_001).notes == ()


def test_a_drift_of_a_model_that_a_generator_does_not_know_is_refused() -> None:
    stream = (
        "- generator: groups\n  models: {count: 2, name: 'm{}'}\n  background_per_s: 1\n  output_tokens: 9\n"
        "  drift: [{column: output_tokens, at_s: 1, factor: 2, model: m2}]\n"
    )
    with pytest.raises(SettingFailure, match="the drift of stream-0: no model 'm2'; known: m0, m1"):
        composed(stream, 20_000)
    assert composed(stream.replace("m2", "m1"), 20_000).truth["model"].to_list().count("m1")


def test_what_a_number_of_requests_cuts_off_is_no_truth(tmp_path: Path) -> None:
    drift = "[{column: output_tokens, at_s: 10, factor: 2}, {column: output_tokens, at_s: 900, factor: 3}]"
    stream = f"- {{rate_per_s: 1, output_tokens: 9, drift: {drift}}}"
    given = workload(parse(f"span_s: 1000\nrequests: 50\nstreams:\n{stream}", Path("w.yaml")), "w", "")
    for made in (generate(given, tmp_path / "t.parquet", 5), generate_parts(given, tmp_path / "parts", 5)):
        assert made.truth.filter(pl.col("what") == "drift")["start_s"].unique().to_list() == [10]
        assert made.info.notes[-1].endswith("what would begin later is left out of the truth.")


@pytest.mark.parametrize("plan", ["drift: [{column: output_tokens, ", "changes: [{"])
def test_what_is_planned_for_before_the_trace_is_refused(plan: str) -> None:
    with pytest.raises(InputFailure, match="at_s is -5, before the trace begins"):
        composed(f"- rate_per_s: 2\n  {plan}at_s: -5, factor: 2}}]\n", 20_000)


def test_a_drift_that_changes_nothing_is_refused() -> None:
    with pytest.raises(InputFailure, match="one of tokens a factor or spread"):
        composed("- rate_per_s: 2\n  output_tokens: 9\n  drift: [{column: output_tokens, at_s: 5}]\n", 20)
