"""A measured and a simulated run on one page: errors by metric and percentile, and of single requests."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from click.testing import CliRunner
from synthetic_runs import Recipe, make_run, outcomes

from reports.fidelity import errors, numbers, pairs
from reports.fidelity_charts import binned
from reports.measured import labels, measure_all
from reports.run_page import Report, compute, draw
from toolkit.cli import main
from toolkit.runs import Run, RunWriter

RECIPE = Recipe("fcfs", 800, failed=0.02)


def measured_run(folder: Path, slower: float = 1.25, speed: float = 1.0) -> Path:
    """The run of RECIPE as an engine would have measured it that takes `slower` times as long to the first token."""
    frame = outcomes(RECIPE)
    late = (pl.col("first_token_s") - pl.col("arrival_s")) * (slower - 1)
    again = frame.with_columns(pl.col("first_token_s", "finish_s") + late)
    times = pl.col("arrival_s", "first_token_s", "finish_s") / speed
    info = {"run_id": "real", "name": "fcfs", "engine": {"name": "openai"}, "trace": {"name": "synthetic"}}
    writer = RunWriter.create(folder / "real", info)
    writer.append("outcomes", again.with_columns(times, start_s=None, engine=pl.lit("openai")))
    writer.finish(verdict="VALID")
    return folder / "real"


def report(*folders: Path) -> Report:
    return compute([Run.open(folder) for folder in folders])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("both")
    return report(measured_run(folder), make_run(folder, RECIPE))


def test_errors_are_those_of_the_requests_that_ended_in_both(both: Report) -> None:
    (run,) = both.fidelity["runs"]
    found = {(row["metric"], row["statistic"]): row for row in run["errors"]}
    assert set(found) == {(m, s) for m in ("ttft_s", "tpot_s", "e2e_s") for s in ("mean", "p50", "p90", "p95", "p99")}
    for statistic in ("mean", "p50", "p99"):
        row = found["ttft_s", statistic]
        assert row["error"] == pytest.approx(1 / 1.25 - 1)
        assert row["simulated"] == pytest.approx(row["measured"] / 1.25)
        assert row["low"] == pytest.approx(row["high"]) == pytest.approx(-0.2)
    assert found["tpot_s", "p99"]["error"] == pytest.approx(0)
    assert run["each"]["ttft_s"]["p50"] == pytest.approx(0.2)
    assert run["each"]["ttft_s"]["close"] == 0.0
    assert run["each"]["tpot_s"]["close"] == 1.0
    assert run["requests"] + run["left_out"] == 800
    assert run["left_out"] > 5


def test_the_page_says_how_right_the_simulation_is(both: Report) -> None:
    page = draw(both)
    assert "<h1>fcfs, simulated is off from fcfs, openai by " in page
    assert "\u221220.0\u202f% in P99 TTFT" in page
    assert 'id="fidelity"' in page
    assert "HELD AGAINST A RUN" in page
    assert "ACCURACY UNKNOWN" not in page


def test_the_interval_of_an_error_holds_it() -> None:
    rng = np.random.default_rng(5)
    measured = rng.lognormal(0, 1, 600)
    for row in errors("e2e_s", measured, measured * rng.lognormal(0.05, 0.2, 600)):
        assert row["low"] <= row["error"] <= row["high"]


def test_requests_measured_alike_stand_together(both: Report) -> None:
    table = binned(both.pairs[0], "ttft_s")
    assert table["requests"].sum() > 700
    assert table["measured"].is_sorted()
    assert (table["p10"] <= table["p50"]).all()
    assert (table["p50"] <= table["p90"]).all()


def test_other_requests_are_not_compared(tmp_path: Path) -> None:
    faster, simulated = measured_run(tmp_path / "fast", speed=2.0), make_run(tmp_path, RECIPE)
    runs = measure_all([Run.open(folder) for folder in (faster, simulated)])
    assert pairs(runs) == []
    assert [pairs(runs[:1]), pairs(runs[1:])] == [[], []]
    assert numbers(runs, []) is None


def test_the_order_does_not_matter_and_json_has_it(both: Report) -> None:
    paths = [str(run.run.path) for run in reversed(both.runs)]
    shown = CliRunner().invoke(main, ["report", *paths, "--json"])
    found = orjson.loads(shown.output)["fidelity"]
    assert found["measured"] == "fcfs, openai"
    assert found["runs"][0]["errors"] == both.fidelity["runs"][0]["errors"]


def test_runs_of_one_name_are_told_apart_by_their_engines(tmp_path: Path) -> None:
    runs = [Run(tmp_path, {"name": "fcfs", "engine": {"name": name}}) for name in ("openai", "simulated", "simulated")]
    assert labels(runs) == ["fcfs, openai", "fcfs, simulated (1)", "fcfs, simulated (2)"]
