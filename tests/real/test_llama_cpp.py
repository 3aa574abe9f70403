"""A replay against llama.cpp, from the wheel `xllamacpp`, with a random model: `make test-llama`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.replay.http.test_replaying import trace_file
from toolkit.cli import main
from toolkit.runs import Run

pytest.importorskip("xllamacpp", reason="llama.cpp is not here: make test-llama")
pytest.importorskip("gguf", reason="what writes its models is not here: make test-llama")

SERVER = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port, p.n_parallel = sys.argv[1], ["127.0.0.1"], 0, 8
p.n_ctx, p.cpuparams.n_threads, p.cpuparams_batch.n_threads = 16384, 1, 1
p.endpoint_metrics, p.cont_batching, p.warmup = True, True, False
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
time.sleep(600)
"""


@contextmanager
def llama(folder: Path, **model: bool) -> Iterator[str]:
    """The server, for as long as the block runs; its URL."""
    from tests.real.tiny_gguf import write

    write(folder / "tiny.gguf", **model)
    command = [sys.executable, "-c", SERVER, str(folder / "tiny.gguf")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield next(line.strip() for line in process.stdout if line.startswith("http"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with llama(tmp_path_factory.mktemp("model")) as found:
        yield found


def replayed(url: str, folder: Path, rows: list[dict], *options: str, **known: object) -> Run:
    words = ["--url", url, "--lag-bound-s", "60", "--out", str(folder / "r"), *options]
    done = CliRunner().invoke(main, ["replay", str(trace_file(folder, rows, **known)), "--engine", "openai", *words])
    assert done.exit_code == 0, done.output
    (run,) = (folder / "r").iterdir()
    return Run.open(run)


def simple(count: int, gap_s: float = 0.02) -> list[dict]:
    return [
        {"arrival_s": gap_s * n, "model": "m", "prompt_tokens": 20 + n % 90, "output_tokens": 1 + n % 20}
        for n in range(count)
    ]


@pytest.mark.parametrize("connections", ["pooled", "fresh"])
def test_each_request_is_answered_once_with_the_lengths_asked_for(url, connections, tmp_path):
    """It promises to keep connections and hangs up after each reply: none may fail or be sent twice for that."""
    run = replayed(url, tmp_path, simple(150), "--connections", connections)
    assert run.info["statuses"] == {"ok": 150}
    assert run.info["lengths"] == {"prompts_exact": 1.0, "outputs_exact": 1.0}
    outcomes = run.table("outcomes").collect()
    assert (outcomes["attempts"] == 1).all()
    assert (outcomes["first_token_s"] > outcomes["sent_s"]).all()
    assert (outcomes["finish_s"] >= outcomes["first_token_s"]).all()
    assert outcomes["cached_tokens"].max() < 20


def test_the_probe_finds_what_it_can_do(url, tmp_path):
    run = replayed(url, tmp_path, simple(10), "--scheduler", "sjf", "--send-priority")
    (can,) = run.info["engine"]["capabilities"].values()
    assert (can["owned_by"], can["max_model_len"]) == ("llamacpp", 2048)
    assert (can["usage"], can["ignore_eos"], can["min_tokens"]) == ("honoured", "accepted", "ignored")
    assert can["prompts"] == "token ids 100 to 350"
    assert f"priority is ignored by {url}" in run.info["notes"]


def test_equal_blocks_are_equal_tokens(url, tmp_path):
    rows = [
        {"arrival_s": 0.05 * n, "model": "m", "prompt_tokens": 90, "output_tokens": 3, "prefix_blocks": [7, 8, 9, 10]}
        for n in range(12)
    ]
    run = replayed(url, tmp_path, rows, block_tokens=16)
    cached = run.table("outcomes").sort("request_id").collect()["cached_tokens"].to_list()
    assert max(cached) <= 66  # each of its eight slots has to meet the blocks first
    assert sum(found >= 64 for found in cached) >= 4, cached


def test_its_own_numbers_are_the_timeline(url, tmp_path):
    run = replayed(url, tmp_path, simple(60, 0.05))
    timeline = run.table("timeline").collect()
    assert len(timeline) >= 2
    assert timeline["running"].null_count() == timeline["queue"].null_count() == 0


def test_tokens_are_counted_though_fewer_chunks_come(tmp_path):
    """Bytes that make no character are held back: llama.cpp sends fewer chunks than tokens, or none."""
    with llama(tmp_path, broken=True) as url:
        run = replayed(url, tmp_path, simple(40))
    assert run.info["statuses"] == {"ok": 40}
    assert run.info["lengths"]["outputs_exact"] == 1.0
    outcomes, wire = run.table("outcomes").collect(), run.table("wire").collect()
    assert wire["chunks"].sum() < outcomes["output_tokens"].sum() / 2
    assert outcomes["first_token_s"].null_count() == 0
