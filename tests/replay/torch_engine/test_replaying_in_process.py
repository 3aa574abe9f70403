"""`trace replay --engine transformers`, from a trace to a run folder."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not here: make test-transformers")
pytest.importorskip("transformers", reason="transformers is not here: make test-transformers")

from replay.engines.transformers import Source, Transformers
from replay.torch_engine.limits import Limits
from tests.replay.simulations import make_trace
from tests.replay.torch_engine.tiny import CONFIG
from toolkit import plugins
from toolkit.cli import main
from toolkit.plugins import BUILTIN
from toolkit.runs import Run, RunWriter
from toolkit.schema import EVENTS, OUTCOMES, TIMELINE, conform
from toolkit.traces import TraceInfo

REQUESTS = 12
CLUSTER = """
gpus: [{type: h100}]
models:
  - {name: a, preset: tiny-llama, slo_ttft_s: 1, slo_tpot_s: 0.1}
  - {name: b, preset: tiny-llama}
limits: {max_num_seqs: 8, max_num_batched_tokens: 64, swap: true}
sharing: {page_bytes: 65536}
"""

HALF = """
from toolkit.placing import Load
class Half:
    def begin(self, facts):
        return [Load(0, (0,), 0.5)]
    def decide(self, view):
        return []
"""


def frame(requests: int = REQUESTS) -> pl.DataFrame:
    """Requests of two models and three tiers, too many at once for a small engine."""
    rng = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "arrival_s": np.sort(rng.uniform(0, 0.1, requests)),
            "model": [("a", "b")[n % 2] for n in range(requests)],
            "tenant": [f"t{n % 3}" for n in range(requests)],
            "tier": [("premium", "standard", "batch")[n % 3] for n in range(requests)],
            "prompt_tokens": rng.integers(3, 60, requests),
            "output_tokens": rng.integers(2, 20, requests),
        }
    )


class Unstopped:
    """Never stops."""

    def progress(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool:
        return False


@pytest.mark.parametrize("name", BUILTIN["scheduler"])
def test_every_scheduler_serves_every_request_once(name: str, tmp_path: Path) -> None:
    limits = Limits(kv_blocks=10, max_num_seqs=4, max_num_batched_tokens=32, swap=len(name) % 2 == 0)
    engine = Transformers((Source("tiny", CONFIG),), limits, device="cpu")
    trace = make_trace(frame())
    writer = RunWriter.create(tmp_path / "run", {"run_id": "run", "name": name, "engine": engine.describe()})
    info = TraceInfo("test", "test", "", REQUESTS, REQUESTS, span_s=0.1)
    assert engine.replay(trace, info, plugins.create("scheduler", name), writer, Unstopped())
    run = Run.open(tmp_path / "run")
    rows = run.table("outcomes").collect().sort("request_id")
    assert rows["request_id"].to_list() == list(range(REQUESTS))
    assert rows["status"].unique().to_list() == ["ok"]
    assert rows["output_tokens"].to_list() == trace["output_tokens"].to_list()
    assert rows["token_s"].list.len().to_list() == trace["output_tokens"].to_list()
    waits = rows.select(pl.col("sent_s") - pl.col("arrival_s"), pl.col("start_s") - pl.col("sent_s"))
    assert waits.min_horizontal().min() >= 0  # type: ignore[operator]
    steps = run.table("timeline").collect()
    assert steps["kv_used_blocks"].max() <= 10  # type: ignore[operator]
    assert len(steps) == run.info["steps"]
    for table, schema in (("outcomes", OUTCOMES), ("timeline", TIMELINE), ("events", EVENTS)):
        conform(run.table(table), schema, source=table)


def command(tmp_path: Path, *options: str) -> Any:
    file = tmp_path / "trace.csv"
    frame().write_csv(file)
    plain = ["--engine", "transformers", "--device", "cpu", "--out", str(tmp_path / "runs")]
    return CliRunner().invoke(main, ["replay", str(file), *plain, *options], standalone_mode=True)


def test_the_command_writes_runs_that_the_report_shows(tmp_path: Path) -> None:
    shown = command(tmp_path, "--model-preset", "tiny-llama", "--kv-blocks", "40", "--max-num-seqs", "4",
                    "--scheduler", "fcfs,srpt", "--preempt-by", "swap", "--max-num-batched-tokens", "64")  # fmt: skip
    assert shown.exit_code in (0, 3), shown.output  # a machine that is busy may be late
    info = json.loads((tmp_path / "runs/srpt/run.json").read_bytes())
    assert info["statuses"] == {"ok": REQUESTS}
    assert info["lengths"] == {"prompts_exact": 1.0, "outputs_exact": 1.0}
    assert info["engine"]["kv_blocks"][0] >= 40
    page = tmp_path / "report.html"
    report = CliRunner().invoke(
        main, ["report", *(str(tmp_path / "runs" / n) for n in ("fcfs", "srpt")), "--out", str(page)]
    )
    assert report.exit_code == 0, report.output
    assert "transformers" in page.read_text()


def test_weights_of_a_folder_are_served(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **CONFIG)).save_pretrained(tmp_path / "model")
    shown = command(tmp_path, "--model-path", str(tmp_path / "model"), "--max-num-seqs", "4")
    assert shown.exit_code in (0, 3), shown.output
    assert json.loads((tmp_path / "runs/fcfs/run.json").read_bytes())["engine"]["models"] == ["model"]


def test_several_models_share_the_device_by_a_placement(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    shown = command(tmp_path, "--cluster", str(tmp_path / "cluster.yaml"), "--memory-gib", "0.001",
                    "--placement", "lru:hold_s=0.01,cycle_s=0.02,prism:idle_s=0.01,cycle_s=0.02")  # fmt: skip
    assert shown.exit_code in (0, 3), shown.output
    for run in Path(tmp_path / "runs").iterdir():
        table = Run.open(run).table("outcomes").collect()
        assert table["status"].to_list() == ["ok"] * REQUESTS
        loads = Run.open(run).table("events").filter(kind="load").collect()
        assert set(loads["model"]) == {"a", "b"}
        assert loads["duration_s"].min() > 0  # type: ignore[operator]
        assert table.filter(model="a")["slo_ttft_s"].to_list() == [1.0] * (REQUESTS // 2)


def test_every_placement_that_loads_from_the_host_serves_every_request(tmp_path: Path) -> None:
    """On one device none of them migrates, or keeps layers on the host."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    hurried = {"serverlessllm": "serverlessllm:keep_s=0.1,cycle_s=0.1"}
    names = ",".join(hurried.get(name, name) for name in BUILTIN["placement"] if name != "qlm")
    shown = command(tmp_path, "--cluster", str(tmp_path / "cluster.yaml"), "--memory-gib", "0.02", "--placement", names)
    assert shown.exit_code in (0, 3), shown.output
    statuses = [json.loads(file.read_bytes())["statuses"] for file in tmp_path.glob("runs/*/run.json")]
    assert statuses == [{"ok": REQUESTS}] * (len(BUILTIN["placement"]) - 1)


@pytest.mark.parametrize(
    ("cluster", "options", "said"),
    [
        (CLUSTER.replace("h100}", "h100, count: 2}"), (), "has one device, the cluster 2 GPUs"),
        (CLUSTER.replace("llama}", "llama, tensor_parallel: 1, replicas: 2}"), (), "replicas: 2; leave it out"),
        (CLUSTER.replace("sharing: {", "sharing: {contention: 0, "), (), "does not follow contention: 0"),
        (CLUSTER.replace("tiny-llama}", "tiny-llama, latency: fit.yaml}"), (), "latency: fit.yaml; leave it out"),
        (CLUSTER + "loading: naive", (), "loading: naive: starts an engine for each load"),
        (CLUSTER, ("--placement", "lru,qlm"), "--placement qlm: starts an engine for each load"),
        (CLUSTER, ("--placement", "half.py:Half", "--memory-gib", "0.01"), "keeps layers on the host, which --engine"),
        (CLUSTER, ("--slo-scale", "5", "2"), "needs replays of each model alone, which are only simulated"),
        (CLUSTER, ("--model-path", "x"), "--model-path: is of one engine, not of a --cluster"),
        (CLUSTER, (), "--memory-gib: the CPU's memory is not one GPU's; say how much"),
        (None, ("--latency", "roofline"), "--latency: is not of --engine transformers"),
        (None, ("--model-preset", "mixtral-8x7b"), "has experts or latent attention"),
        (None, ("--model-preset", "llama-3.1-405b"), "GiB of weights, of which the host needs a copy"),
        (None, ("--device", "tpu"), "no device is called 'tpu'"),
        (None, ("--model-path", "nowhere"), "cannot be read as a model"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    cluster: str | None, options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    if cluster is not None:
        (tmp_path / "cluster.yaml").write_text(cluster)
        (tmp_path / "half.py").write_text(HALF)
        options = tuple(word.replace("half.py", str(tmp_path / "half.py")) for word in options)
        options = ("--cluster", str(tmp_path / "cluster.yaml"), *options)
    shown = command(tmp_path, *options)
    assert shown.exit_code == 1, shown.output
    assert said in shown.output
    assert shown.output.count("\n") == 1
    assert not (tmp_path / "runs").exists()


class Stopping(Unstopped):
    """Stops once some requests are done."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.asked = 0

    def stopped(self) -> bool:
        self.asked += 1
        return self.asked > 10


def test_a_replay_that_was_stopped_starts_over(tmp_path: Path) -> None:
    engine = Transformers((Source("tiny", CONFIG),), Limits(max_num_seqs=2), device="cpu")
    trace, info = make_trace(frame()), TraceInfo("test", "test", "", REQUESTS, REQUESTS, span_s=0.1)
    writer = RunWriter.create(tmp_path / "run", {"run_id": "run", "name": "fcfs", "engine": engine.describe()})
    assert not engine.replay(trace, info, plugins.create("scheduler", "fcfs"), writer, Stopping())
    assert not Run.open(tmp_path / "run").finished
    again = RunWriter(tmp_path / "run", writer.info)
    assert engine.replay(trace, info, plugins.create("scheduler", "fcfs"), again, Unstopped())
    assert sorted(Run.open(tmp_path / "run").table("outcomes").collect()["request_id"]) == list(range(REQUESTS))
