"""The sample trace is the one its script makes, and what is said to be planted in it is there."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from toolkit.analysis.drift import Drift
from toolkit.traces import Trace, read_trace

DATASETS = Path(__file__).parents[1] / "datasets"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", DATASETS / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    import sys

    sys.modules["make_sample"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trace() -> Trace:
    return read_trace([DATASETS / "sample.parquet"])


@pytest.fixture(scope="module")
def frame(trace: Trace) -> pl.DataFrame:
    return trace.frame.collect()


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, dict[str, list[list[float]]]]]:
    found: dict[str, dict[str, dict[str, list[list[float]]]]] = orjson.loads(
        (DATASETS / "sample_truth.json").read_bytes()
    )
    return found


def test_the_script_makes_the_files(script: ModuleType, frame: pl.DataFrame, tmp_path: Path) -> None:
    script.main(tmp_path)
    assert_frame_equal(read_trace([tmp_path / "sample.parquet"]).frame.collect(), frame)
    assert read_trace([tmp_path / "sample.parquet"]).info == read_trace([DATASETS / "sample.parquet"]).info
    assert (tmp_path / "sample_truth.json").read_bytes() == (DATASETS / "sample_truth.json").read_bytes()


def test_it_is_small_and_says_what_it_is(trace: Trace, frame: pl.DataFrame) -> None:
    assert (DATASETS / "sample.parquet").stat().st_size < 600_000
    assert (trace.info.name, trace.info.format, trace.info.block_tokens) == ("sample", "canonical", 64)
    assert trace.info.block_scope == "global"
    assert trace.info.rows_kept == len(frame) == frame["request_id"].n_unique()
    assert 3_000 <= len(frame) <= 6_000


def test_groups_are_busy_when_planted(frame: pl.DataFrame, truth: dict) -> None:  # type: ignore[type-arg]
    for group in truth["groups"].values():
        for model in group["models"]:
            # Later turns trail behind a burst; sessions start inside it.
            starts = frame.filter(pl.col("model") == model, pl.col("turn").fill_null(0) == 0)["arrival_s"].to_numpy()
            inside = np.any([(starts >= low) & (starts < high) for low, high in group["busy_s"]], axis=0)
            busy_s = sum(high - low for low, high in group["busy_s"])
            rate, quiet = inside.sum() / busy_s, (~inside).sum() / (truth["span_s"] - busy_s)
            assert rate > 8 * quiet, model


def test_outputs_drift_for_one_model_and_tenant_only(frame: pl.DataFrame, truth: dict) -> None:  # type: ignore[type-arg]
    drift = truth["drift"]
    late = pl.col("arrival_s") >= drift["at_s"]
    one = (pl.col("model") == drift["model"]) & (pl.col("tenant") == drift["tenant"])
    other = (pl.col("model") == drift["model"]) & (pl.col("tenant") != drift["tenant"])

    def growth(rows: pl.Expr) -> float:
        medians = [frame.filter(rows & when)["output_tokens"].median() for when in (late, ~late)]
        return medians[0] / medians[1]  # type: ignore[operator]

    assert growth(one) == pytest.approx(drift["factor"], rel=0.15)
    assert growth(other) == pytest.approx(1, rel=0.2)


def test_drift_of_one_model_and_tenant_is_found_over_all_traffic(
    trace: Trace, frame: pl.DataFrame, truth: dict
) -> None:  # type: ignore[type-arg]
    planted = truth["drift"]
    tables = Drift().run(frame.select(Drift.columns), trace.info)
    found = tables["strata_points"].filter(pl.col("column") == "output_tokens")
    assert found.select("model", "tenant").rows() == [(planted["model"], planted["tenant"])]
    row = found.row(0, named=True)
    assert row["time_low_s"] <= planted["at_s"] <= row["time_high_s"]
    assert row["ratio"] == pytest.approx(planted["factor"], rel=0.15)
    verdicts = dict(tables["summary"].select("column", "verdict").iter_rows())
    assert (verdicts["output_tokens"], verdicts["prompt_tokens"]) == ("drift", "none")


def test_predictions_err_as_said_and_miss_the_drift(frame: pl.DataFrame, truth: dict) -> None:  # type: ignore[type-arg]
    drift = truth["drift"]
    one = (pl.col("model") == drift["model"]) & (pl.col("tenant") == drift["tenant"])
    drifted = one & (pl.col("arrival_s") >= drift["at_s"])
    error = (pl.col("predicted_output_tokens") / pl.col("output_tokens")).log()
    others = frame.filter(~drifted, pl.col("output_tokens") > 20).select(error).to_series()
    assert others.median() == pytest.approx(0, abs=0.03)
    assert others.std() == pytest.approx(truth["prediction"]["sigma"], rel=0.05)
    median = frame.filter(drifted).select(error).to_series().median()
    assert median == pytest.approx(-np.log(drift["factor"]), abs=0.1)


def test_turns_follow_their_parents_and_share_their_blocks(frame: pl.DataFrame) -> None:
    parents = frame.select("request_id", *(pl.col(c).alias(f"p_{c}") for c in ("arrival_s", "turn", "prefix_blocks")))
    turns = frame.join(parents, left_on="parent_id", right_on="request_id")
    assert len(turns) == frame.filter(pl.col("turn") > 0).height > 1_000
    assert (turns["arrival_s"] > turns["p_arrival_s"] + turns["think_s"]).all()
    assert (turns["turn"] == turns["p_turn"] + 1).all()
    for blocks, before in turns.select("prefix_blocks", "p_prefix_blocks").head(200).iter_rows():
        whole = len(before) - 1
        assert blocks[:whole] == before[:whole]


def test_blocks_cover_the_prompt(frame: pl.DataFrame) -> None:
    covered = frame.drop_nulls("prefix_blocks")
    assert (covered["prefix_blocks"].list.len() == -(-covered["prompt_tokens"] // 64)).all()
    assert frame.filter(pl.col("prefix_blocks").is_null())["model"].unique().to_list() == ["cirrus-extract"]


def test_tiers_have_their_objectives(frame: pl.DataFrame, truth: dict) -> None:  # type: ignore[type-arg]
    for tier, slo in truth["tiers"].items():
        rows = frame.filter(pl.col("tier") == tier)
        assert rows.select("slo_ttft_s", "slo_tpot_s").unique().to_dicts() == [slo]


def test_reading_it_from_elsewhere_changes_nothing(frame: pl.DataFrame, tmp_path: Path) -> None:
    copy = Path(shutil.copy(DATASETS / "sample.parquet", tmp_path / "renamed"))
    assert_frame_equal(read_trace([copy]).frame.collect(), frame)
