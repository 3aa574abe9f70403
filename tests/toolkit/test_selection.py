"""Selecting from a trace: what is cut, thinned, copied and rescaled, and what the options parse to."""

import click
import polars as pl
import pytest
from click.testing import CliRunner

from toolkit.errors import SettingFailure
from toolkit.schema import OUTCOMES, TRACE, conform
from toolkit.selection import Selection
from toolkit.trace_options import column_map, selection_from, trace_options
from toolkit.traces import Trace, TraceInfo


def make_trace(rows: int = 100, *, sessions: bool = False, outcomes: bool = False) -> Trace:
    ids = pl.int_range(rows, eager=True)
    frame = pl.DataFrame({"request_id": ids, "arrival_s": ids * 0.5}).with_columns(
        model=pl.when(ids % 2 == 0).then(pl.lit("a")).otherwise(pl.lit("b")), prompt_tokens=ids
    )
    if sessions:  # sessions of four turns, each turn the child of the one before
        turn = pl.col("request_id") % 4
        frame = frame.with_columns(
            session_id=pl.format("s{}", pl.col("request_id") // 4),
            turn=turn,
            parent_id=pl.when(turn > 0).then(pl.col("request_id") - 1),
            think_s=pl.lit(2.0),
        )
    info = TraceInfo("t", "test", "0", rows, rows, span_s=(rows - 1) * 0.5)
    measured = frame.select(
        "request_id", "arrival_s", run_id=pl.lit("t"), finish_s=pl.col("arrival_s") + 1, status=pl.lit("ok")
    )
    return Trace(
        conform(frame.lazy(), TRACE, source="t"),
        info,
        conform(measured.lazy(), OUTCOMES, source="t") if outcomes else None,
    )


def selected(selection: Selection, trace: Trace) -> pl.DataFrame:
    frame = selection.apply(trace).frame.collect()
    assert frame.schema == TRACE
    assert frame["request_id"].to_list() == list(range(frame.height))
    return frame


def test_nothing_asked_returns_the_very_trace():
    trace = make_trace()
    assert Selection().apply(trace) is trace


def test_cut_starts_again_at_zero_and_counts_what_it_left_out():
    trace = Selection(from_s=10, to_s=20).apply(make_trace())
    frame = trace.frame.collect()
    assert frame["prompt_tokens"].to_list() == list(range(20, 40))
    assert frame["arrival_s"][0] == 0
    assert trace.info.dropped == {"not selected": 80}
    assert (trace.info.rows_read, trace.info.rows_kept, trace.info.span_s) == (100, 20, 9.5)
    assert trace.info.notes == ("selected with --from 10 --to 20",)


def test_what_is_known_of_the_source_is_said_of_what_was_selected():
    trace = make_trace()
    known = {"epoch": "2026-01-31T23:59:58.5", "clock_step_s": 0.5, "duplicates": 7, "span_s": 49.5}
    trace = Trace(trace.frame, TraceInfo("t", "test", "0", 100, 100, **known))
    cut = Selection(from_s=10.2).apply(trace).info
    assert (cut.epoch, cut.clock_step_s) == ("2026-02-01T00:00:09", 0.5)
    assert cut.duplicates is None  # not counted among those selected
    assert Selection(limit=5).apply(trace).info.epoch == "2026-01-31T23:59:58.500000"
    faster = Selection(speed=4).apply(trace).info
    assert (faster.epoch, faster.clock_step_s) == (None, 0.125)  # no wall clock runs so fast


def test_limit_comes_after_the_filters():
    assert selected(Selection(models=("b",), limit=3), make_trace())["prompt_tokens"].to_list() == [1, 3, 5]


def test_speed_scales_gaps_and_think_times():
    frame = selected(Selection(speed=4), make_trace(sessions=True))
    assert frame["arrival_s"][99] == 99 * 0.5 / 4
    assert frame["think_s"].unique().to_list() == [0.5]


def test_sample_keeps_whole_sessions_and_their_parents():
    frame = selected(Selection(sample=0.5), make_trace(2000, sessions=True))
    assert 0.4 < frame.height / 2000 < 0.6
    assert frame.group_by("session_id").len()["len"].unique().to_list() == [4]
    child = frame.filter(pl.col("turn") > 0)
    assert (child["parent_id"] == child["request_id"] - 1).all()


def test_a_parent_that_was_not_selected_becomes_null():
    frame = selected(Selection(from_s=0.5), make_trace(8, sessions=True))
    assert frame["parent_id"].to_list() == [None, 0, 1, None, 3, 4, 5]


def test_a_larger_load_copies_sessions_as_closed_loops():
    frame = selected(Selection(scale_load=2), make_trace(40, sessions=True))
    assert frame.height == 80
    assert frame["session_id"].n_unique() == 20
    parents = frame.join(frame, left_on="parent_id", right_on="request_id", suffix="_of_parent")
    assert parents.height == 60
    assert (parents["session_id"] == parents["session_id_of_parent"]).all()
    assert frame["arrival_s"].is_sorted()


@pytest.mark.parametrize("load", [0.25, 1.5, 2.75])
def test_a_fractional_load_is_met_on_average_and_repeatable(load: float):
    trace = make_trace(4000)
    frame = selected(Selection(scale_load=load), trace)
    assert frame.height == pytest.approx(4000 * load, rel=0.06)
    assert frame.equals(selected(Selection(scale_load=load), trace))


def test_rows_read_stay_rows_kept_plus_dropped():
    for selection in (Selection(sample=0.3), Selection(scale_load=3), Selection(models=("a",), scale_load=1.5)):
        info = selection.apply(make_trace(500)).info
        assert info.rows_read == info.rows_kept + sum(info.dropped.values())


def test_outcomes_follow_the_selection_and_leave_with_another_load():
    trace = make_trace(outcomes=True)
    chosen = Selection(models=("b",), limit=5).apply(trace)
    assert chosen.outcomes is not None
    outcomes = chosen.outcomes.collect()
    assert outcomes.schema == OUTCOMES
    assert outcomes["request_id"].to_list() == [0, 1, 2, 3, 4]
    assert outcomes["arrival_s"].to_list() == chosen.frame.collect()["arrival_s"].to_list()
    assert (outcomes["finish_s"] - outcomes["arrival_s"]).to_list() == [1] * 5
    assert Selection(speed=2).apply(trace).outcomes is None


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(SettingFailure, match="no model is called 'B'; did you mean 'b'"):
        Selection(models=("B",)).apply(make_trace())


def test_an_empty_selection_and_a_cut_without_times_are_refused():
    nothing = "--from 1000 --model a --model b: no request of the trace's 49.5 s is selected"
    with pytest.raises(SettingFailure, match=nothing):
        Selection(from_s=1000, models=("a", "b")).apply(make_trace())
    timeless = make_trace()
    info = TraceInfo("t", "test", "0", 100, 100)
    with pytest.raises(SettingFailure, match="no times"):
        Selection(to_s=5).apply(Trace(timeless.frame, info))


def test_column_map_parses_and_names_what_it_does_not_know():
    assert column_map(("arrival_s=ts, model=name", "finish_s=end")) == {
        "arrival_s": "ts",
        "model": "name",
        "finish_s": "end",
    }
    with pytest.raises(SettingFailure, match="did you mean 'prompt_tokens'"):
        column_map(("prompt_token=x",))
    with pytest.raises(SettingFailure, match="is not COLUMN=SOURCE"):
        column_map(("model",))


def test_options_reach_the_selection():
    seen = {}

    @click.command()
    @trace_options
    def command(**arguments):
        seen["selection"] = selection_from(arguments)
        seen["left"] = arguments

    line = "--from 1 --model a --model b --limit 5 --speed 2 --map model=m --format burstgpt --time-unit ms"
    result = CliRunner().invoke(command, line.split())
    assert result.exit_code == 0, result.output
    assert seen["selection"] == Selection(from_s=1, models=("a", "b"), limit=5, speed=2)
    assert seen["left"] == {"trace_format": "burstgpt", "columns": ("model=m",), "time_unit": "ms"}


@pytest.mark.parametrize("option", ["speed", "scale_load"])
def test_speed_and_load_must_be_positive(option: str):
    with pytest.raises(SettingFailure, match="must be above 0"):
        selection_from({option: 0.0})


@pytest.mark.parametrize("option", ["from_s", "to_s", "speed", "scale_load"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_selects_nothing(option: str, value: float):
    with pytest.raises(SettingFailure, match=r"--[a-z-]+: (nan|inf) is not a finite number"):
        selection_from({option: value})


def test_a_load_of_a_trillion_is_refused():
    with pytest.raises(SettingFailure, match="--scale-load: must be at most 1,000,000"):
        selection_from({"scale_load": 1e12})


def test_a_share_that_is_no_number_is_a_usage_error():
    @click.command()
    @trace_options
    def command(**options): ...

    shown = CliRunner().invoke(command, ["--sample", "nan"])
    assert shown.exit_code == 2
    assert "nan is not a finite number" in shown.output
