"""`trace calibrate`: logs made by hand are met, and fits give back what they were made from."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from replay.calibration.check import compare, replay_log, times
from replay.calibration.engine_log import read_log
from replay.latency_models.choosing import latency_model, served_by
from replay.latency_models.fit import Fit
from replay.latency_models.profile import Profile
from replay.latency_models.roofline import Roofline
from replay.latency_models.table import Table
from tests.replay.profiles import write_log, write_profile
from toolkit.cli import main
from toolkit.errors import InputFailure, SettingFailure

PROMPT, OUTPUT = 100, 4


def trace(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def request(arrival: float, first: float, last: float, prompt: int = PROMPT, output: int = OUTPUT) -> dict[str, float]:
    stamps = {"queued_ts": arrival, "scheduled_ts": arrival, "first_token_ts": first, "last_token_ts": last}
    return {"input_toks": prompt, "output_toks": output, "arrival_time": 1e9 + arrival, **stamps}


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    """The log of one request alone: a prefill and three decode steps, by hand."""
    folder = tmp_path / "log"
    write_profile(folder / "profile")
    profile = Profile(str(folder / "profile"), captured=64)
    head = profile.head_s(np.array([1.0]))[0]
    first = (
        profile.dense_s(np.array([100.0]))[0] + head + profile.prefill_attention_s(np.array([100.0]), np.zeros(1))[0]
    )
    steps = [profile.decode_attention_s(1, np.array([float(kv)]))[0] for kv in (101, 102, 103)]
    last = first + sum(steps) + 3 * (profile.dense_s(np.array([1.0]))[0] + head)
    return write_log(folder, [request(0.0, first, last)])


def test_a_request_alone_is_met(lone: Path) -> None:
    found = json.loads(trace("calibrate", "--check", lone, "--json").output)
    for metric in ("ttft", "tpot", "e2e"):
        assert found[metric]["mean_error"] == pytest.approx(0, abs=2e-4)
        assert {"p50_error", "p99_error"} <= set(found[metric])
    assert found["e2e"]["mape"] == pytest.approx(0, abs=2e-4)


def test_planning_ahead_makes_an_arrival_wait_one_step_more(tmp_path: Path) -> None:
    write_profile(tmp_path / "log/profile")
    rows = [request(0.0, 1, 2, 100, 50), request(0.0001, 1, 2)]
    log = read_log(write_log(tmp_path / "log", rows))
    ahead, _ = replay_log(log)
    at_once, _ = replay_log(replace(log, limits=replace(log.limits, async_scheduling=False)))
    step = log.latency.dense_s(np.array([1.0]))[0] + log.latency.head_s(np.array([1.0]))[0]
    waited = (ahead["first_token_s"] - at_once["first_token_s"]).to_list()
    assert waited[0] == 0
    assert waited[1] == pytest.approx(step, rel=0.1)


def test_instances_in_lockstep_take_the_same_steps(tmp_path: Path) -> None:
    write_profile(tmp_path / "log/profile")
    (tmp_path / "log/profile/bf16/tp1/moe.csv").write_text("tokens,activated_experts,time_us\n1,1,5\n2048,8,50\n")
    model = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "vocab_size": 100}
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({**model, **experts}))
    rows = [request(0.0, 1, 2, 100, 9), request(0.0, 1, 2, 2000, 9)]
    folder = write_log(tmp_path / "log", rows, data_parallel_size=2, enable_expert_parallel=True)
    together, _ = replay_log(read_log(folder, str(tmp_path / "config.json")))
    assert together["first_token_s"].n_unique() == 1
    assert together["finish_s"].n_unique() == 1
    apart, _ = replay_log(read_log(folder))  # a dense model's ranks do not wait for each other
    assert apart["first_token_s"].n_unique() == 2


def test_steps_taken_together_are_the_same_compiled_and_not(tmp_path: Path) -> None:
    write_profile(tmp_path / "log/profile")
    rows = [request(0.003 * i, 1, 2, 40 + 60 * (i % 7), 5 + i % 4) for i in range(12)]
    log = write_log(tmp_path / "log", rows, data_parallel_size=2, enable_expert_parallel=True, max_num_seqs=4)
    command = [sys.executable, "-c", "from toolkit.cli import main; main()", "calibrate", "--check", str(log), "--json"]
    plain = subprocess.run(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, check=True)
    assert plain.stdout.decode() == trace("calibrate", "--check", log, "--json").output


def test_what_a_log_lacks_is_taken_from_defaults_and_said(lone: Path) -> None:
    meta = json.loads((lone / "vllm/meta.json").read_text())
    (lone / "vllm/meta.json").write_text(json.dumps({"model": meta["model"], "engine_kwargs": {}}))
    instance = {"npu_mem": {"mem_size": 24, "mem_bw": 1008, "mem_util": 0.9}}
    (lone / "config.json").write_text(json.dumps({"nodes": [{"instances": [instance]}]}))
    log = read_log(lone)
    assert (log.limits.max_num_seqs, log.limits.max_num_batched_tokens) == (256, 2048)
    usable = 24 * 2**30 * 0.9 - 2 * 2**30 - log.latency.model.weight_bytes
    assert log.limits.kv_blocks == int(usable // (32_768 * 16))
    assert [note.split(" is ")[0].split(" are ")[0] for note in log.notes] == [
        "KV blocks",
        "max_num_seqs",
        "max_num_batched_tokens",
    ]


def test_errors_are_signed_and_paired() -> None:
    found = compare(np.array([1.1, 2.0]), np.array([1.0, 2.0]))
    assert found["mean_error"] == pytest.approx(0.1 / 3)
    assert found["mape"] == pytest.approx(0.05)


def test_one_token_has_no_tpot() -> None:
    columns = {"arrival_s": [0.0, 0.0], "first_token_s": [1.0, 1.0], "finish_s": [1.0, 3.0], "output_tokens": [1, 2]}
    assert times(pl.DataFrame(columns))["tpot"].tolist() == [2.0]


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """A run of a known affine model, and the model that is fitted to it."""
    known = tmp_path / "known.yaml"
    known.write_text("latency: fit\nstep_s: 0.01\nsequence_s: 0.0002\nkv_token_s: 1.0e-7\nprefill_token_s: 1.0e-5\n")
    rows = {
        "TIMESTAMP": [0.2 * i for i in range(300)],
        "ContextTokens": [50 + (i * 37) % 900 for i in range(300)],
        "GeneratedTokens": [20 + (i * 53) % 300 for i in range(300)],
    }
    pl.DataFrame(rows).write_csv(tmp_path / "trace.csv")
    maps = "arrival_s=TIMESTAMP,prompt_tokens=ContextTokens,output_tokens=GeneratedTokens"
    made = trace("replay", tmp_path / "trace.csv", "--map", maps, "--latency", known, "--out", tmp_path / "runs")
    assert made.exit_code == 0, made.output
    found = trace("calibrate", "--run", tmp_path / "runs/fcfs", "--out", tmp_path / "fit.yaml", "--json")
    assert found.exit_code == 0, found.output
    return tmp_path / "fit.yaml"


def test_a_fit_gives_back_the_model_of_the_run(fitted: Path) -> None:
    model = latency_model(str(fitted))
    assert isinstance(model, Fit)
    assert model.step_s == pytest.approx(0.01, rel=0.05)
    assert model.sequence_s == pytest.approx(0.0002, rel=0.2)
    assert "held_back" in fitted.read_text()


def test_latency_models_are_chosen_by_name_path_and_file(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "profile")
    made = latency_model(f"profile:{folder},captured=8")
    assert isinstance(made, Profile)
    assert made.sizes.max() == 8
    roofline = latency_model("roofline:compute_efficiency=0.5", gpu="l4", model="llama-3.2-1b")
    assert isinstance(roofline, Roofline)
    assert roofline.flops_per_s == pytest.approx(60.5e12)
    (tmp_path / "points.yaml").write_text("dense: [[1, 0.01], [101, 0.02]]\nhead: [[1, 0.001]]\n")
    table = latency_model(f"table:{tmp_path / 'points.yaml'}")
    assert isinstance(table, Table)
    assert table.dense_s(np.array([51.0, 201.0])) == pytest.approx([0.015, 0.03])
    assert table.head_s(np.array([0.0, 5.0])) == pytest.approx([0.0, 0.001])


@pytest.mark.parametrize(
    ("text", "says"), [("head: []", "no points for 'dense'"), ("dnse: []", "did you mean 'dense'"), ("3", "no table")]
)
def test_a_bad_table_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "points.yaml").write_text(text)
    with pytest.raises(InputFailure, match=says):
        Table(str(tmp_path / "points.yaml"))


def test_a_profile_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "profile")
    assert served_by(f"profile:{folder}", "l4", "llama-3.2-1b", 1)
    with pytest.raises(SettingFailure, match=r"is of meta-llama/Llama-3\.2-1B"):
        served_by(f"profile:{folder}", "l4", "llama-3.1-8b", 1)


def test_a_profile_becomes_a_latency_file(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "profile")
    found = trace("calibrate", "--profile", folder, "--out", tmp_path / "latency.yaml")
    assert found.exit_code == 0, found.output
    assert "held back: knots" in found.output
    assert isinstance(latency_model(str(tmp_path / "latency.yaml")), Profile)


def test_usage_and_missing_logs_are_one_line(tmp_path: Path) -> None:
    assert trace("calibrate").exit_code == 2
    found = trace("calibrate", "--check", tmp_path)
    assert found.exit_code == 1
    assert "meta.json" in found.output
