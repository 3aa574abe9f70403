"""Replays against vLLM on this machine's CPU, with a random model: `make test-vllm`. Each server starts in a minute."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from replay.http import asking, replies
from replay.http.endpoint import endpoint
from replay.http.targets import address_of
from tests.replay.http.test_replaying import trace_file
from toolkit.cli import main
from toolkit.runs import Run

if find_spec("vllm") is None:
    pytest.skip("vLLM is not here: make test-vllm", allow_module_level=True)

START_S = 600  # a minute where nothing else runs
ALONE = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip
USUAL = ("--served-model-name", "tiny", "--host", "127.0.0.1", "--enforce-eager", "--dtype", "bfloat16",
         "--block-size", "32", "--enable-prompt-tokens-details")  # fmt: skip
BURST = (60, 5, 20)  # output tokens, in turns


@contextmanager
def vllm(folder: Path, *options: str) -> Iterator[str]:
    """The server, for as long as the block runs; its URL."""
    from tests.real.tiny_llama import write

    write(folder / "tiny")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "tiny"), *USUAL]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), *options], env=os.environ | ALONE, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"vLLM does not start: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Under its own scheduler, one request at a time."""
    with vllm(tmp_path_factory.mktemp("plain"), "--scheduling-policy", "priority", "--max-num-seqs", "1") as url:
        yield url


@pytest.fixture(scope="module", params=["TraceScheduler", "AsyncTraceScheduler"])
def ours(request, tmp_path_factory):
    """Ours inside, with two places and 31 blocks of 32 tokens."""
    charge = ("--scheduler-cls", f"replay.vllm.scheduler.{request.param}")
    small = ("--max-num-seqs", "2", "--num-gpu-blocks-override", "32", "--max-model-len", "960")
    with vllm(tmp_path_factory.mktemp(request.param), *charge, *small) as url:
        yield url


def replayed(url: str, folder: Path, rows: list[dict], *options: str, known: dict | None = None) -> dict[str, Run]:
    """The runs by their schedulers."""
    words = ["--url", url, "--lag-bound-s", "60", "--out", str(folder / "r"), *options]
    file = trace_file(folder, rows, **(known or {}))
    done = CliRunner().invoke(main, ["replay", str(file), "--engine", "openai", *words])
    assert done.exit_code == 0, done.output
    return {path.name: Run.open(path) for path in (folder / "r").iterdir()}


def simple(count: int, gap_s: float = 0.05) -> list[dict]:
    return [
        {"arrival_s": gap_s * n, "model": "m", "prompt_tokens": 20 + n % 90, "output_tokens": 1 + n % 12}
        for n in range(count)
    ]


def burst(count: int = 30) -> list[dict]:
    """All at once, as far as an engine with one place can tell."""
    tiers = {"tenant": ["a", "b"], "tier": ["premium", "standard", "batch"]}
    return [
        {"arrival_s": 0.005 * n, "model": "m", "prompt_tokens": 24, "output_tokens": BURST[n % 3]}
        | {name: of[n % len(of)] for name, of in tiers.items()}
        for n in range(count)
    ]


def places(run: Run) -> dict[int, float]:
    """Where requests came in, the first to finish at 0: the mean by output tokens, as the client saw it."""
    ended = run.table("outcomes").sort("finish_s").with_row_index("place")
    return dict(ended.group_by("output_tokens").agg(pl.col("place").mean()).collect().iter_rows())


def all_exact(run: Run) -> bool:
    return set(run.info["statuses"]) == {"ok"} and run.info["lengths"] == {"prompts_exact": 1.0, "outputs_exact": 1.0}


def test_each_request_is_answered_once_with_the_lengths_asked_for(plain, tmp_path):
    run = replayed(plain, tmp_path, simple(60))["fcfs"]
    assert all_exact(run)
    (can,) = run.info["engine"]["capabilities"].values()
    assert (can["usage"], can["ignore_eos"], can["min_tokens"], can["priority"]) == (
        "honoured", "accepted", "accepted", "accepted",
    )  # fmt: skip
    assert (can["prompts"], can["max_model_len"], can["owned_by"]) == ("token ids 100 to 999", 2048, "vllm")
    outcomes = run.table("outcomes").collect()
    assert (outcomes["attempts"] == 1).all()
    assert (outcomes["first_token_s"] > outcomes["sent_s"]).all()
    assert outcomes["cached_tokens"].fill_null(0).max() == 0
    assert sum(stretch["connections"] for stretch in run.info["stretches"]) < 40
    assert run.table("wire").collect()["disagrees"].null_count() == 60


def test_its_own_numbers_are_the_timeline(plain, tmp_path):
    timeline = replayed(plain, tmp_path, simple(40))["fcfs"].table("timeline").collect()
    assert len(timeline) >= 2
    assert timeline["model"].unique().to_list() == ["tiny"]
    for name in ("queue", "running", "kv_used_blocks", "kv_total_blocks"):
        assert timeline[name].null_count() == 0, name
    assert timeline["kv_total_blocks"].min() > 100


def test_special_tokens_show_no_text_and_are_tokens(plain):
    target = endpoint(plain)
    dial = asking.dial_of(target, address_of(target), None)
    body = {"model": "tiny", "prompt": [100, 101, 102], "max_tokens": 6, "ignore_eos": True, "stream": True,
            "allowed_token_ids": [0, 2], "stream_options": {"include_usage": True}}  # fmt: skip
    exchange = asking.post(target, dial, "/v1/completions", body)
    reply = replies.settle(exchange)
    said = b"".join(exchange.parts)
    assert said.count(b'"text":""') == said.count(b'"text":') > 0  # one for several tokens, where it has to hurry
    assert (reply.status, reply.output_tokens, reply.disagrees) == ("ok", 6, None)
    assert exchange.first_byte_s <= reply.first_token_s <= reply.last_token_s


def test_equal_blocks_are_equal_tokens(plain, tmp_path):
    rows = [
        {"arrival_s": 0.1 * n, "model": "m", "prompt_tokens": 150, "output_tokens": 3, "prefix_blocks": [7, 8, 9, 10]}
        for n in range(8)
    ]
    run = replayed(plain, tmp_path, rows, known={"block_tokens": 32})["fcfs"]
    cached = run.table("outcomes").sort("request_id").collect()["cached_tokens"].fill_null(0).to_list()
    assert cached == [0] + [128] * 7


def decided(runs: dict[str, Run]) -> bool:
    """Whether the shortest ended first under sjf and not under fcfs, and the engine began as the ranks say."""
    fcfs, sjf, order = places(runs["fcfs"]), places(runs["sjf"]), runs["sjf"].info["order"]
    seen = sjf[5] < sjf[20] < sjf[60] and fcfs[60] - fcfs[5] < 5 < sjf[60] - sjf[5]
    return seen and order["choices"] > 20 and order["kept"] >= 0.9 * order["choices"]


def test_priorities_that_are_sent_along_decide(plain, tmp_path):
    """As the client sees it; one that stalls sees what came meanwhile all at once, so it may try three times."""
    folders = [tmp_path / str(attempt) for attempt in range(3)]
    for folder in folders:
        folder.mkdir()
    given = ("--scheduler", "fcfs,sjf", "--send-priority")
    assert any(decided(replayed(plain, folder, burst(), *given)) for folder in folders)


def test_hints_need_our_scheduler_inside(plain, tmp_path):
    words = ["--engine", "openai", "--url", plain, "--scheduler", "sjf", "--send-hints", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(main, ["replay", str(trace_file(tmp_path, burst(3))), *words])
    assert done.exit_code == 1
    assert "--scheduler-cls replay.vllm.scheduler" in done.output


def test_requests_run_in_the_order_of_ours_inside(ours, tmp_path):
    """By what the engine tells, on its own clock."""
    runs = replayed(ours, tmp_path, burst(), "--scheduler", "fcfs,sjf,srpt", "--send-hints")
    assert all(map(all_exact, runs.values()))
    for name, run in runs.items():
        order = run.info["order"]
        assert order["choices"] > 15, name
        assert order["kept"] == order["choices"], name
    assert runs["sjf"].info["preemptions"] == 0
    assert runs["srpt"].info["preemptions"] > 0  # who came first and is long loses its place


def test_who_ranks_last_makes_room_when_memory_runs_out(ours, tmp_path):
    """Two that need 25 and 27 blocks in the end, of 31; the second to come, at once, is the shorter."""
    rows = [
        {"arrival_s": 0.0, "model": "m", "prompt_tokens": 300, "output_tokens": 560},
        {"arrival_s": 0.005, "model": "m", "prompt_tokens": 300, "output_tokens": 500},
    ]
    runs = replayed(ours, tmp_path, rows, "--scheduler", "fcfs,sjf", "--send-hints")
    finish = {n: r.table("outcomes").sort("request_id").collect()["finish_s"].to_list() for n, r in runs.items()}
    assert all(map(all_exact, runs.values()))
    assert all(run.info["preemptions"] > 0 for run in runs.values())
    assert finish["fcfs"][0] < finish["fcfs"][1]
    assert finish["sjf"][1] < finish["sjf"][0]


def test_policies_of_every_kind_are_in_charge(ours, tmp_path):
    """Curves, lanes, patience, order and observe, one replay after the other in the same engine."""
    names = "uniboost,mlfq,las,ltr:starve_s=0.2,gittins-boost,vtc,driftsched-weighted,moore-hodgson,driftsched-aging"
    runs = replayed(ours, tmp_path, burst(18), "--scheduler", names, "--send-hints")
    assert len(runs) == 9
    assert all(map(all_exact, runs.values()))


def test_turns_wait_for_the_turn_before(ours, tmp_path):
    rows = [row | {"session_id": f"s{n % 5}", "turn": n // 5} for n, row in enumerate(burst(15))]
    for n, row in enumerate(rows):
        row |= {"parent_id": n - 5, "think_s": 0.05} if n >= 5 else {}
    run = replayed(ours, tmp_path, rows, "--scheduler", "sjf", "--send-hints")["sjf"]
    assert all_exact(run)
    assert run.info["order"]["kept"] == run.info["order"]["choices"] > 0


def test_requests_that_are_given_up_leave_the_line(ours, tmp_path):
    """The client hangs up on what waits; the engine goes on with the others, and with the next replay."""
    words = ["--engine", "openai", "--url", ours, "--lag-bound-s", "60", "--send-hints", "--timeout", "first=0.3,gap=9"]
    file = trace_file(tmp_path, burst(24))
    done = CliRunner().invoke(main, ["replay", str(file), *words, "--scheduler", "sjf", "--out", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    assert 0 < Run.open(tmp_path / "a" / "sjf").info["statuses"]["timeout"] < 24
    assert all_exact(replayed(ours, tmp_path, burst(6), "--scheduler", "sjf", "--send-hints")["sjf"])
