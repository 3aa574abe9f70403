"""`trace replay` as its users run it."""

import json
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
from click.testing import CliRunner

from replay.replayer import label_of, split_specs
from tests.replay.simulations import make_trace
from toolkit.cli import main
from toolkit.errors import SettingFailure
from toolkit.runs import Run, find_runs
from toolkit.traces import Trace, TraceInfo, write_trace


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    """Two hundred requests of three models, one of them too long for any memory."""
    rows = [
        {
            "arrival_s": 0.05 * n,
            "model": f"m{n % 3}",
            "tier": "premium" if n % 4 == 0 else "batch",
            "prompt_tokens": 10_000_000 if n == 17 else 50 + 7 * (n % 40),
            "output_tokens": 1 + (n * 37) % 300,
            "predicted_output_tokens": 100,
        }
        for n in range(200)
    ]
    path = tmp_path_factory.mktemp("trace") / "t.parquet"
    frame = make_trace(rows)
    write_trace(Trace(frame.lazy(), TraceInfo("t", "canonical", "0" * 64, 200, 200, span_s=9.95)), path)
    return path


def run(*arguments: object):
    return CliRunner().invoke(main, ["replay", *map(str, arguments)])


def test_several_schedulers_leave_a_run_folder_each(trace_file, tmp_path):
    done = run(
        trace_file, "--scheduler", "fcfs,trail:hold_share=0.6", "--scheduler", "priority", "--out", tmp_path / "r"
    )
    assert done.exit_code == 0, done.output
    runs = {r.name: r for r in find_runs([tmp_path / "r"])}
    assert set(runs) == {"fcfs", "trail:hold_share=0.6", "priority"}
    info = runs["fcfs"].info
    assert info["state"] == "finished"
    assert info["requests"] == 200
    assert info["steps"] > 0
    assert info["preemptions"] == 0
    assert 0 < info["utilisation"] < 1
    assert info["simulation_cpu_s"] > 0
    assert info["engine"]["limits"]["kv_blocks"] > 1000
    outcomes = runs["fcfs"].table("outcomes").collect()
    assert len(outcomes) == 200
    refused = outcomes.filter(pl.col("status") == "rejected")
    assert refused["request_id"].to_list() == [17]
    assert "max_model_len" in refused["error"][0]


def test_the_command_in_the_run_repeats_it(trace_file, tmp_path):
    assert run(trace_file, "--out", tmp_path / "a", "--max-num-seqs", 3, "--no-prefix-caching").exit_code == 0
    command = Run.open(tmp_path / "a" / "fcfs").info["command"]
    assert "--max-num-seqs 3" in command
    assert "--no-prefix-caching" in command
    again = command.replace(str(tmp_path / "a"), str(tmp_path / "b")).split()
    assert run(*again[2:]).exit_code == 0
    a, b = (Run.open(tmp_path / name / "fcfs").table("outcomes").collect() for name in "ab")
    assert a.equals(b)


@pytest.fixture
def cluster(tmp_path):
    models = ", ".join(f"{{name: m{n}, preset: llama-3.2-1b}}" for n in range(3))
    (tmp_path / "cluster.yaml").write_text(f"gpus: [{{type: h100, count: 2}}]\nmodels: [{models}]\n")
    return tmp_path / "cluster.yaml"


def test_the_command_of_a_run_on_a_cluster_repeats_it(trace_file, cluster, tmp_path):
    given = ["--cluster", cluster, "--placement", "lru", "--slo-scale", 5, 2, "--no-band", "--out", tmp_path / "a"]
    done = run(trace_file, *given)
    assert done.exit_code == 0, done.output
    first = next(iter(find_runs([tmp_path / "a"])))
    assert first.info["engine"]["limits"]["gpus"] == "2 h100"
    assert "--slo-scale 5.0 2.0" in first.info["command"]
    again = first.info["command"].replace(str(tmp_path / "a"), str(tmp_path / "b")).split()
    assert run(*again[2:]).exit_code == 0
    second = next(iter(find_runs([tmp_path / "b"])))
    assert second.table("outcomes").collect().equals(first.table("outcomes").collect())


def test_objectives_by_scale_are_of_the_trace_at_its_own_load(trace_file, cluster, tmp_path):
    given = [trace_file, "--cluster", cluster, "--slo-scale", 5, 2, "--no-band"]
    objectives = []
    for load in (1, 3):
        done = run(*given, "--scale-load", load, "--out", tmp_path / str(load))
        assert done.exit_code == 0, done.output
        outcomes = Run.open(tmp_path / str(load) / "static-fcfs").table("outcomes").collect()
        assert len(outcomes) == 200 * load
        objectives.append(set(outcomes.select("model", "slo_ttft_s", "slo_tpot_s").iter_rows()))
    assert len(objectives[0]) == 3
    assert objectives[0] == objectives[1]


def test_a_replay_on_a_cluster_that_is_resumed_says_that_it_starts_over(trace_file, cluster, tmp_path, monkeypatch):
    from replay import replayer

    monkeypatch.setattr(replayer.Meter, "stopped", lambda self: True)
    assert run(trace_file, "--cluster", cluster, "--no-band", "--out", tmp_path / "cut").exit_code == 130
    monkeypatch.undo()
    resumed = run("--resume", tmp_path / "cut")
    assert resumed.exit_code == 0, resumed.output
    assert "static-fcfs: starts over: it left no checkpoint" in resumed.output
    assert Run.open(tmp_path / "cut" / "static-fcfs").finished


def test_what_was_not_served_is_said_with_the_commonest_reason(trace_file, tmp_path):
    done = run(trace_file, "--kv-blocks", 9, "--out", tmp_path)
    refused = next(iter(find_runs([tmp_path]))).table("outcomes").filter(pl.col("status") == "rejected").collect()
    assert refused.height
    assert f"; {refused.height:,} not served, such as: rejected, {refused['error'].mode().sort()[-1]}" in done.output


def test_a_run_may_lie_in_a_folder_whose_name_looks_like_a_pattern(trace_file, tmp_path):
    folder = tmp_path / "at [7] o'clock*"
    assert run(trace_file, "--no-band", "--out", folder).exit_code == 0
    assert Run.open(folder / "fcfs").table("outcomes").collect().height == 200
    reported = CliRunner().invoke(main, ["report", str(folder / "fcfs"), "--out", str(folder / "report.html")])
    assert reported.exit_code == 0, reported.output


def test_a_second_run_in_the_same_folder_is_refused(trace_file, tmp_path):
    assert run(trace_file, "--out", tmp_path).exit_code == 0
    again = run(trace_file, "--out", tmp_path)
    assert again.exit_code == 1
    assert "holds a run already" in again.output
    assert "--resume" in again.output


def test_an_interrupted_replay_is_resumed_to_the_same_outcomes(trace_file, tmp_path, monkeypatch):
    from replay.simulation import driver

    monkeypatch.setattr(driver, "BITE", 40)
    assert run(trace_file, "--scheduler", "srpt", "--out", tmp_path / "whole").exit_code == 0

    from replay import replayer

    class Impatient(replayer.Meter):
        looks = 0

        def stopped(self) -> bool:
            self.looks += 1
            return self.looks > 3

    monkeypatch.setattr(replayer, "Meter", Impatient)
    cut = run(trace_file, "--scheduler", "srpt", "--out", tmp_path / "cut")
    assert cut.exit_code == 130
    assert f"trace replay --resume {tmp_path / 'cut'}" in cut.output
    assert not Run.open(tmp_path / "cut" / "srpt").finished
    monkeypatch.undo()
    resumed = run("--resume", tmp_path / "cut")
    assert resumed.exit_code == 0, resumed.output
    tables = [
        Run.open(tmp_path / name / "srpt").table("outcomes").sort("request_id").collect() for name in ("whole", "cut")
    ]
    assert tables[0].equals(tables[1])
    assert not (tmp_path / "cut" / "srpt" / "checkpoint.npz").exists()


def test_a_killed_replay_leaves_a_run_that_resumes(trace_file, tmp_path):
    out = tmp_path / "r"
    command = [
        sys.executable,
        "-c",
        "from toolkit.cli import main; main()",
        "replay",
        str(trace_file),
        "--out",
        str(out),
    ]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if (out / "fcfs" / "run.json").exists() or killed.poll() is not None:
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = run("--resume", out)
    assert done.exit_code == 0, done.output
    assert len(Run.open(out / "fcfs").table("outcomes").collect()) == 200


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (":Rankless", "Rankless: is no scheduler; it needs rank(requests, now_s)"),
        (":Needs", "needs the parameter 'k'; write "),
        (":Nedds", "no 'Nedds' in it; did you mean 'Needs'?"),
        (":Needs:k=nan", "'nan' is not float"),
        ("", "no '' in it; known: Needs, Rankless"),
    ],
)
def test_a_file_that_holds_no_such_policy_is_one_line(trace_file, tmp_path, named, said):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\n"
        "class Rankless: ...\n\n"
        "class Needs:\n    def __init__(self, k: float): self.k = k\n"
        "    def rank(self, requests, now_s): return np.zeros(len(requests))\n"
    )
    done = run(trace_file, "--out", tmp_path / "r", "--scheduler", f"{tmp_path}/mine.py{named}")
    assert done.exit_code == 1
    assert said in done.output
    assert not (tmp_path / "r").exists()


MISTAKEN = """
import numpy as np
from toolkit.protocols import Lanes, Preemption

class Arrival:
    def rank(self, requests, now_s): return requests["arrival_s"].to_numpy()

class Raises:
    def rank(self, requests, now_s): raise ValueError("boom")
class OneArgument:
    def rank(self, requests): return requests["arrival_s"].to_numpy()
class Words:
    def rank(self, requests, now_s): return ["late"] * len(requests)
class Skipped(Arrival):
    lanes = Lanes(cycle=(0, 1))
    def lane(self, requests): return np.full(len(requests), 2)
class Sometimes(Arrival):
    preemption = Preemption("sometimes")
class Text(Arrival):
    curve = "steep"
class Hidden(Arrival):
    @property
    def curve(self): return self.nothing
class Patient(Arrival):
    def patience(self, requests): return 3.0
class Silent(Arrival):
    def observe(self, outcomes, now_s): pass
class Fractions(Arrival):
    def order(self, waiting, now_s): return np.arange(len(waiting)) / 2
class Beyond(Arrival):
    def order(self, waiting, now_s): return np.arange(len(waiting)) + 1
class Few(Arrival):
    def predicted(self, request_ids): return np.zeros(1)
three = 3
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Raises", "mine.py:9: ValueError: boom; mend rank there"),
        ("OneArgument", "is no scheduler; it needs rank(requests, now_s)"),
        ("Words", "rank() gave no numbers"),
        ("Skipped", "lane 2, which has no turn in its cycle [0, 1]"),
        ("Sometimes", "Sometimes.preemption: when is 'sometimes'; known: memory, rank"),
        ("Text", "Text.curve: is of type str, not a Curve"),
        ("Hidden", "has no attribute 'nothing'; mend curve there"),
        ("Patient", "Patient.patience: is of type float, not a Patience"),
        ("Silent", "observe_every_s is None"),
        ("Fractions", "order() gave no permutation"),
        ("Beyond", "order() gave no permutation"),
        ("Few", "predicted() gave shape (1,)"),
        ("three", "'three' is no class"),
    ],
)
def test_a_mistake_in_a_policy_file_is_one_line(trace_file, tmp_path, name, said):
    (tmp_path / "mine.py").write_text(MISTAKEN)
    spec = f"{tmp_path}/mine.py:{name}"
    done = run(trace_file, "--out", tmp_path / "r", "--no-band", "--max-num-seqs", 1, "--scheduler", spec)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert said in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(("text", "said"), [("def x(:", "mine.py:1: is not Python"), ("1 / 0", "mine.py:1: ZeroDivis")])
def test_a_policy_file_that_does_not_load_is_one_line(trace_file, tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    done = run(trace_file, "--out", tmp_path / "r", "--scheduler", f"{tmp_path}/mine.py:Mine")
    assert said in done.output
    assert done.output.count("\n") == 1


def test_rows_that_were_dropped_are_said(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,9,2\nnan,9,2\n1,-9,2\n2,9,2\n")
    done = run(tmp_path / "t.csv", "--out", tmp_path / "r", "--no-band", "--limit", 1)
    assert "t: rows dropped when it was read: 1 negative tokens, 1 no arrival time" in done.stderr
    assert "not selected" not in done.stderr


def test_nothing_is_left_to_resume(trace_file, tmp_path):
    assert run(trace_file, "--out", tmp_path / "r", "--no-band", "--limit", 3).exit_code == 0
    assert "every run is finished already" in run("--resume", tmp_path / "r").output


@pytest.mark.parametrize("on_cluster", [False, True])
@pytest.mark.parametrize("damage", [b"", b"garbage", b"PK\x03\x04garbage"])
def test_a_damaged_checkpoint_is_one_line(trace_file, cluster, tmp_path, on_cluster, damage):
    where = ["--cluster", cluster] if on_cluster else []
    assert run(trace_file, *where, "--limit", 3, "--no-band", "--out", tmp_path).exit_code == 0
    (folder,) = (found.path for found in find_runs([tmp_path]))
    info = json.loads((folder / "run.json").read_text()) | {"state": "running"}
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "checkpoint.npz").write_bytes(damage)
    again = run("--resume", folder)
    assert again.exit_code == 1
    assert again.output == f"trace: {folder / 'checkpoint.npz'}: is damaged; delete it to start over\n"


def test_a_changed_trace_is_not_resumed(trace_file, tmp_path):
    assert run(trace_file, "--out", tmp_path).exit_code == 0
    file = tmp_path / "fcfs" / "run.json"
    info = json.loads(file.read_text()) | {"state": "running"}
    info["trace"]["sha256"] = "1" * 64
    file.write_text(json.dumps(info))
    refused = run("--resume", tmp_path)
    assert refused.exit_code == 1
    assert "has changed" in refused.output


def test_a_policy_in_a_file_needs_no_installation(trace_file, tmp_path):
    policy = tmp_path / "mine.py"
    policy.write_text(
        "class Longest:\n"
        '    """Most output first."""\n'
        "    def __init__(self, weight: float = 1.0): self.weight = weight\n"
        "    def rank(self, requests, now_s): return -self.weight * requests['output_tokens'].to_numpy()\n"
    )
    done = run(trace_file, "--scheduler", f"{policy}:Longest:weight=2", "--max-num-seqs", 1, "--out", tmp_path / "r")
    assert done.exit_code == 0, done.output
    (folder,) = find_runs([tmp_path / "r"])
    assert folder.path.name == "Longest_weight-2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "fcsf"], "did you mean 'fcfs'?"),
        (["--scheduler", "trail:hold_shar=1"], "did you mean 'hold_share'?"),
        (["--scheduler", "trail:hold_share=x"], "'x' is not float"),
        (["--scheduler", "sjf:predictor=oracel"], "did you mean 'oracle'?"),
        (["--scheduler", "uniboost:k=99999999999"], "k from 1 to below"),
        (["--scheduler", "mlfq:levels=0"], "levels ≥ 1"),
        (["--scheduler", "las:quantum=-3"], "quantum: -3 is below 0"),
        (["--scheduler", "moore-hodgson:window=0"], "window: 0 is below 1"),
        (["--scheduler", "fcfs,fcfs"], "named twice"),
        (["--gpu", "h10"], "did you mean 'h100'?"),
        (["--max-num-batched-tokens", "8"], "max_num_seqs=256"),
        (["--max-num-batched-tokens", "8"], "lower max_num_seqs to 8 too"),
        (["--max-num-batched-tokens", "10000000000"], "at most 16,777,216"),
        (["--swap-bytes-per-s", "1e-30"], "raise the rate, --swap-bytes-per-s"),
        (["--scheduler", "uniboost:alpha_decode=0"], "alpha_decode: 0 is not above 0"),
        (["--engine", "micro-batch", "--batch-wait-s", "1e9"], "from 0 to 86,400 seconds"),
        (["--model", "m9"], "m9"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_nearest_name(trace_file, tmp_path, arguments, message):
    refused = run(trace_file, "--out", tmp_path / "r", *arguments)
    assert refused.exit_code == 1
    assert message in refused.output
    assert refused.output.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_replay_that_fails_before_it_begins_leaves_no_folder(trace_file, tmp_path, there):
    (tmp_path / "mine.py").write_text(
        "class Nowhere:\n    def rank(self, requests, now_s):\n        return requests['arrival_s'].to_numpy()[:1]\n"
    )
    out = tmp_path / "r"
    if there:
        out.mkdir()
    failed = run(trace_file, "--scheduler", "fcfs", "--scheduler", f"{tmp_path}/mine.py:Nowhere", "--out", out)
    assert failed.exit_code == 1
    assert "rank() gave shape" in failed.output
    assert [folder.name for folder in out.iterdir()] == ["fcfs"]
    assert Run.open(out / "fcfs").finished
    assert run(trace_file, "--scheduler", f"{tmp_path}/mine.py:Nowhere", "--out", tmp_path / "s").exit_code == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--batch-size", "3"], "--batch-size: is of --engine micro-batch"),
        (["--device", "cuda"], "--device: is of --engine transformers"),
        (["--lag-bound-s", "1"], "--lag-bound-s: is of engines that are sent to"),
        (["--engine", "openai", "--url", "127.0.0.1:9", "--kv-blocks", "5"], "--kv-blocks: is not of --engine openai"),
        (["--engine", "micro-batch", "--dtype", "float16"], "--dtype: is of --engine transformers"),
        (["--engine", "openai", "--url", "127.0.0.1:9", "--ca", "my.pem"], "--ca: no URL is https, so nothing is"),
        (["--tensor-parallel", "3"], "32 heads cannot be split over 3 GPUs; choose another tensor parallelism"),
        (["--scheduler", ""], "--scheduler: names none; `trace plugins` lists them"),
    ],
)
def test_what_the_engine_would_not_heed_is_refused(trace_file, tmp_path, given, said):
    done = run(trace_file, "--out", tmp_path / "r", "--no-band", *given)
    assert done.exit_code == 1
    assert said in done.output
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("parents", [[None, 1], [2, None, 0], [2, 2, 1]])
def test_requests_that_wait_for_one_another_are_refused(tmp_path, parents):
    rows = [
        {"arrival_s": float(n), "parent_id": parent, "think_s": None if parent is None else 1.0, "prompt_tokens": 9,
         "output_tokens": 2}
        for n, parent in enumerate(parents)
    ]  # fmt: skip
    frame = make_trace(rows)
    info = TraceInfo("t", "canonical", "0" * 64, len(rows), len(rows), span_s=2.0)
    write_trace(Trace(frame.lazy(), info), tmp_path / "t.parquet")
    done = run(tmp_path / "t.parquet", "--out", tmp_path / "r")
    assert done.exit_code == 1
    assert "wait for one another in a circle" in done.output


def test_usage_errors_exit_with_2(trace_file):
    assert run().exit_code == 2
    assert run(trace_file).exit_code == 2
    assert run(trace_file, "--resume", "x").exit_code == 2


def test_scheduler_values_split_at_commas_but_not_inside_settings():
    assert split_specs(["fcfs,trail:predictor=column,hold_share=0.6,sjf"], "--scheduler") == [
        "fcfs",
        "trail:predictor=column,hold_share=0.6",
        "sjf",
    ]
    with pytest.raises(SettingFailure):
        split_specs(["fcfs", "fcfs"], "--scheduler")


def test_a_label_is_never_a_path():
    assert label_of("../../x.py:Mine:a=../b") == "Mine_a-..-b"
    assert "/" not in label_of("a/b.py:C:k=/etc")


def test_sessions_without_a_clock_start_a_gap_apart(tmp_path):
    rows = [
        {"parent_id": 0 if n == 2 else None, "think_s": 1.0 if n == 2 else None, "prompt_tokens": 9, "output_tokens": 2}
        for n in range(4)
    ]
    path = tmp_path / "t.parquet"
    write_trace(Trace(make_trace(rows).lazy(), TraceInfo("t", "canonical", "0" * 64, 4, 4)), path)
    refused = run(path, "--out", tmp_path / "r")
    assert refused.exit_code == 1
    assert "--session-gap-s" in refused.output
    assert run(path, "--out", tmp_path / "r", "--session-gap-s", 5).exit_code == 0
    outcomes = Run.open(tmp_path / "r" / "fcfs").table("outcomes").sort("request_id").collect()
    assert outcomes["arrival_s"].to_list()[:2] == [0.0, 5.0]
    assert outcomes["arrival_s"][3] == 10.0
    assert outcomes["arrival_s"][2] == pytest.approx(outcomes["finish_s"][0] + 1.0)


def test_micro_batches_are_resumed_and_say_their_protocol(trace_file, tmp_path):
    out = tmp_path / "r"
    arguments = ("--engine", "micro-batch", "--batch-size", 8, "--batch-wait-s", 0.2)
    assert run(trace_file, *arguments, "--out", out).exit_code == 0
    whole = find_runs([out])[0]
    assert whole.info["engine"]["limits"]["batch_size"] == 8
    assert "--batch-wait-s 0.2" in whole.info["command"]
    assert whole.info["requests"] == 200
    assert whole.info["utilisation"] > 0
    before = whole.table("outcomes").collect()
    assert before["engine"].unique().to_list() == ["micro-batch"]
    cut = {**whole.info, "state": "running"}
    (out / "fcfs" / "run.json").write_text(json.dumps(cut))
    assert run("--resume", out).exit_code == 0
    again = find_runs([out])[0]
    assert again.finished
    assert again.table("outcomes").collect().equals(before)


def test_planning_ahead_delays_and_is_resumed_to_the_same_outcomes(trace_file, tmp_path, monkeypatch):
    from replay import replayer
    from replay.simulation import driver

    assert run(trace_file, "--out", tmp_path / "at-once").exit_code == 0
    assert run(trace_file, "--out", tmp_path / "ahead", "--async-scheduling").exit_code == 0
    at_once, ahead = (Run.open(tmp_path / name / "fcfs") for name in ("at-once", "ahead"))
    assert ahead.info["engine"]["limits"]["async_scheduling"]
    assert "--async-scheduling" in ahead.info["command"]
    ttft = [
        (r.table("outcomes").collect()["first_token_s"] - r.table("outcomes").collect()["arrival_s"]).mean()
        for r in (at_once, ahead)
    ]
    assert ttft[0] < ttft[1] < ttft[0] + 0.02
    assert ahead.table("sensitivity").collect()["step_time_scale"].n_unique() == 5
    monkeypatch.setattr(driver, "BITE", 40)
    monkeypatch.setattr(replayer.Meter, "stopped", lambda meter: meter.stop.is_set() or meter.stop.set())
    assert run(trace_file, "--out", tmp_path / "cut", "--async-scheduling").exit_code == 130
    monkeypatch.undo()
    assert run("--resume", tmp_path / "cut").exit_code == 0
    tables = [Run.open(tmp_path / n / "fcfs").table("outcomes").sort("request_id").collect() for n in ("ahead", "cut")]
    assert tables[0].equals(tables[1])


def test_instances_that_share_experts_step_together(trace_file, tmp_path):
    model = ("--model-preset", "qwen3-30b-a3b", "--instances", 2, "--routing", "vllm-dp", "--no-band")
    assert run(trace_file, "--out", tmp_path / "r", *model, "--expert-parallel", "--async-scheduling").exit_code == 0
    together = Run.open(tmp_path / "r" / "fcfs")
    assert together.info["engine"]["limits"]["lockstep"]
    assert 0 < together.info["utilisation"] < 1
    assert len(together.table("outcomes").collect()) == 200
    timeline = together.table("timeline").collect().group_by("time_s").agg(pl.col("gpu").n_unique())
    assert timeline["gpu"].unique().to_list() == [2]
    assert run(trace_file, "--out", tmp_path / "a", *model).exit_code == 0
    alone = Run.open(tmp_path / "a" / "fcfs").info["engine"]["limits"]["kv_blocks"]
    assert together.info["engine"]["limits"]["kv_blocks"] > alone  # each has half of the experts' weights
    refused = {
        ("--expert-parallel", "--instances", 2): "has no experts",
        ("--expert-parallel", "--model-preset", "qwen3-30b-a3b"): "give --instances",
        ("--async-scheduling", "--engine", "micro-batch"): "use --engine simulated",
    }
    for arguments, message in refused.items():
        done = run(trace_file, "--out", tmp_path / "n", *arguments)
        assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
        assert message in done.output
        assert not (tmp_path / "n").exists()


def test_swapping_keeps_what_was_computed(trace_file, tmp_path):
    tight = ("--scheduler", "fcfs", "--kv-blocks", 60, "--max-model-len", 900, "--no-prefix-caching")
    assert run(trace_file, *tight, "--out", tmp_path / "recompute").exit_code == 0
    assert run(trace_file, *tight, "--swap-bytes-per-s", 1e15, "--out", tmp_path / "free").exit_code == 0
    assert run(trace_file, *tight, "--swap-bytes-per-s", 1e8, "--out", tmp_path / "slow").exit_code == 0
    ends = {}
    for name in ("recompute", "free", "slow"):
        found = Run.open(tmp_path / name / "fcfs")
        assert found.info["preemptions"] > 0
        ends[name] = found.table("outcomes").collect()["finish_s"].max()
    assert ends["free"] < ends["recompute"] < ends["slow"]


def test_a_watermark_leaves_room_for_who_was_admitted(trace_file, tmp_path):
    tight = ("--kv-blocks", 60, "--no-prefix-caching", "--no-band")
    runs = {}
    for share in (0, 0.4):
        assert run(trace_file, *tight, "--watermark", share, "--out", tmp_path / str(share)).exit_code == 0
        runs[share] = Run.open(tmp_path / str(share) / "fcfs")
    assert runs[0.4].info["engine"]["limits"]["watermark_blocks"] == 24
    assert runs[0.4].info["preemptions"] < runs[0].info["preemptions"]
    refused = runs[0.4].table("outcomes").filter(pl.col("request_id") == 17).collect()["error"].item()
    assert "tokens exceed max_model_len" in refused
    small = run(trace_file, "--kv-blocks", 30, "--watermark", 0.5, "--no-band", "--out", tmp_path / "small")
    assert "KV blocks, the engine has 30, of which 15 stay free" in small.output


CLUSTER = """
gpus: [{type: h100, count: 1}]
models: [{name: all, preset: llama-3.2-1b, serves: [m0, m1, m2]}]
"""


@pytest.fixture
def cluster_file(tmp_path):
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return tmp_path / "cluster.yaml"


def test_a_cluster_is_replayed_under_several_placements_and_says_nothing_of_one_engine(
    trace_file, cluster_file, tmp_path
):
    words = ["replay", str(trace_file), "--cluster", str(cluster_file), "--placement", "static,lru", "--no-band"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    runs = {run.path.name: run for run in find_runs([tmp_path / "runs"])}
    assert sorted(runs) == ["lru-fcfs", "static-fcfs"]
    assert runs["lru-fcfs"].info["hardware"] is None
    assert runs["lru-fcfs"].info["placement"]["name"] == "lru"
    sql = "SELECT DISTINCT placement, scheduler FROM outcomes ORDER BY ALL"
    asked = CliRunner().invoke(main, ["query", sql, "--run", str(tmp_path / "runs"), "--format", "csv"])
    assert asked.stdout.split() == ["placement,scheduler", "lru,fcfs", "static,fcfs"]


def test_models_that_no_rank_names_are_said_to_be_left_out(trace_file, cluster_file, tmp_path):
    cluster_file.write_text(CLUSTER.replace("serves: [m0, m1, m2]", "rank: 1"))
    done = run(trace_file, "--cluster", cluster_file, "--no-band", "--out", tmp_path / "runs")
    assert "; 133 left out, of models that no rank names" in done.output


@pytest.mark.parametrize(
    "given", [["--gpu", "l4"], ["--kv-blocks", "9"], ["--no-prefix-caching"], ["--instances", "2"]]
)
def test_what_is_said_of_one_engine_is_refused_on_a_cluster(trace_file, cluster_file, tmp_path, given):
    words = ["replay", str(trace_file), "--cluster", str(cluster_file), "--out", str(tmp_path / "runs"), *given]
    done = CliRunner().invoke(main, words)
    assert f"{given[0].replace('--no-prefix', '--prefix')}: is of one engine, not of a --cluster" in done.output
    assert not (tmp_path / "runs").exists()


def test_what_needs_a_cluster_is_refused_without_one(trace_file, tmp_path):
    for given in (["--placement", "prism"], ["--slo-scale", "5", "2"]):
        done = CliRunner().invoke(main, ["replay", str(trace_file), "--out", str(tmp_path / "runs"), *given])
        assert f"{given[0]}: needs a cluster" in done.output


def test_a_model_that_no_one_serves_leaves_no_folder(trace_file, cluster_file, tmp_path):
    cluster_file.write_text(CLUSTER.replace(", m2", ""))
    words = ["replay", str(trace_file), "--cluster", str(cluster_file), "--out", str(tmp_path / "runs")]
    done = CliRunner().invoke(main, words)
    assert "66 requests are for models that nobody serves, as 'm2'" in done.output
    assert not (tmp_path / "runs").exists()
