"""A replay against llama.cpp, from the wheel `xllamacpp`, with a random model: pip install xllamacpp gguf."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.replay.http.test_replaying import trace_file
from toolkit.cli import main
from toolkit.runs import Run

pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")
pytest.importorskip("gguf", reason="what writes its models is not here: pip install gguf")

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


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    from tests.real.tiny_gguf import write

    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write(model)
    command = [sys.executable, "-c", SERVER, str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield next(line.strip() for line in process.stdout if line.startswith("http"))
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("connections", ["pooled", "fresh"])
def test_llama_cpp_answers_each_request_with_the_lengths_asked_for(url, connections, tmp_path):
    rows = [
        {"arrival_s": 0.02 * n, "model": "m", "prompt_tokens": 20 + n % 90, "output_tokens": 1 + n % 20}
        for n in range(150)
    ]
    words = ["--url", url, "--connections", connections, "--lag-bound-s", "1", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(main, ["replay", str(trace_file(tmp_path, rows)), "--engine", "openai", *words])
    assert done.exit_code == 0, done.output
    run = Run.open(tmp_path / "r" / "fcfs")
    assert run.info["statuses"] == {"ok": 150}
    assert run.info["lengths"] == {"prompts_exact": 1.0, "outputs_exact": 1.0}
    (can,) = run.info["engine"]["capabilities"].values()
    assert (can["owned_by"], can["priority"], can["ignore_eos"]) == ("llamacpp", "ignored", "accepted")
    assert can["prompts"] == "token ids 100 to 350"
    outcomes = run.table("outcomes").collect()
    assert (outcomes["first_token_s"] > outcomes["sent_s"]).all()
    assert outcomes["cached_tokens"].fill_null(0).max() < 20
