"""A fit to the log of a real engine, without the layer profile, and a simulation by it held against the log."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from toolkit.cli import main

LOG = "vllm_0_19/RTX4090_Llama-3.1-8B/vllm/requests.jsonl"


def trace(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_a_real_engines_log_is_met_by_a_fit_to_it(shared_validation: Path, tmp_path: Path) -> None:
    log = shared_validation / LOG
    trace("convert", log, tmp_path / "real", "--run")
    fit = json.loads(trace("calibrate", "--run", tmp_path / "real", "--out", tmp_path / "fit.yaml", "--json"))
    assert fit["held_back"]["mape"] < 0.05
    settings = ("--latency", tmp_path / "fit.yaml", "--kv-blocks", 2588, "--async-scheduling", "--no-band")
    trace("replay", log, *settings, "--out", tmp_path / "runs")
    shown = json.loads(trace("report", tmp_path / "real", tmp_path / "runs/fcfs", "--json"))["fidelity"]
    (run,) = shown["runs"]
    means = {row["metric"]: row["error"] for row in run["errors"] if row["statistic"] == "mean"}
    assert abs(means["e2e_s"]) < 0.03
    assert abs(means["ttft_s"]) < 0.06
    assert abs(means["tpot_s"]) < 0.03
    assert run["each"]["e2e_s"]["mean"] < 0.05
