"""From a run against `trace serve`, in real time, to a simulation of it, and how far off that is."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.replay.http.test_replaying import trace_file
from tests.replay.http.test_serve import served
from toolkit.cli import main

pytestmark = pytest.mark.slow


def trace(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code in (0, 3), done.output
    return done.output


def requests(count: int, per_s: float) -> list[dict]:
    rng = np.random.default_rng(11)
    arrival = np.cumsum(rng.exponential(1 / per_s, count))
    prompt, output = rng.integers(100, 6_000, count), rng.integers(20, 250, count)
    return [
        {"arrival_s": float(a), "prompt_tokens": int(p), "output_tokens": int(o)}
        for a, p, o in zip(arrival, prompt, output, strict=True)
    ]


def test_a_simulation_that_is_fitted_to_a_run_is_close_to_it(tmp_path: Path) -> None:
    file = trace_file(tmp_path, requests(120, 5.0))
    with served() as url:
        trace("replay", file, "--engine", "openai", "--url", url, "--lag-bound-s", 5, "--out", tmp_path / "real")
    said = trace("calibrate", "--run", tmp_path / "real/fcfs", "--out", tmp_path / "fit.yaml")
    assert "the engine has 28,181 KV blocks: simulate it with --kv-blocks 28181" in said
    trace("replay", file, "--latency", tmp_path / "fit.yaml", "--no-band", "--out", tmp_path / "simulated")
    shown = trace("report", tmp_path / "real/fcfs", tmp_path / "simulated/fcfs", "--json")
    (run,) = json.loads(shown)["fidelity"]["runs"]
    error = {(row["metric"], row["statistic"]): row["error"] for row in run["errors"]}
    assert run["requests"] == 120
    assert abs(error["e2e_s", "mean"]) < 0.05
    assert abs(error["tpot_s", "mean"]) < 0.08
    assert abs(error["ttft_s", "mean"]) < 0.25  # of which a busy machine is the most
    assert run["each"]["e2e_s"]["p50"] < 0.08
