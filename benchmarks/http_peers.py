"""How exactly and how cheaply others send the same trace, as the server saw it.

    python -m benchmarks http_peers --tokenizer DIR [--vllm BIN/python] [--aiperf BIN/aiperf] [--guidellm BIN/guidellm]

The peers live in environments of their own, of which BIN is the folder of programs; DIR is a Hugging Face tokenizer
for the prompts that they make. `--save` keeps the table.
All replay one Mooncake trace of Poisson arrivals against the server in C of benchmarks/http_replay.py. Nobody says when
its clock began, so a send error is counted from the request that was sent earliest for its time: a tool that is late
throughout is not blamed for it. CPU a request is what further requests take, without starting: the difference between
a long and a short replay, over the requests in between. Of several long replays (`--repeats`) each figure is the median
of theirs: one stall of a shared machine is not a tool's.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.http_replay import CHUNKS, GAP_US, RESULTS, TTFT_US, server
from benchmarks.machine import TRACE, facts, spent

PROMPT, SHORT_S = 512, 2.0
VLLM = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)  # `vllm bench serve`, whose command does not start in the wheel for CPUs
REPOSITORY, REVISION = "bench/tokenizer", "0" * 40  # of the tokenizer, where a peer takes no folder
QUIET = 1.5  # load average above which nothing is measured


@dataclass(frozen=True)
class Peer:
    """A program that replays a Mooncake trace, and the words that tell it to."""

    name: str
    words: tuple[str, ...]

    def command(self, **told: str) -> list[str]:
        return [word.format(**told) for word in self.words]


def peers(vllm: str | None, aiperf: str | None, guidellm: str | None) -> list[Peer]:
    here = ("--url", "{url}", "--out", "{folder}/run", "--lag-bound-s", "60")  # the server says how late it was
    ours = (*TRACE, "replay", "{file}", "--engine", "openai", *here)
    known = [Peer("trace replay", ours)]
    if vllm:
        asked = "--backend openai --endpoint /v1/completions --model mock --dataset-name timed_trace --ignore-eos"
        trace = "--dataset-path {file} --timed-trace-sec-multiplier 0.001 --timed-trace-chunk-hash-size 512"
        quiet = "--ready-check-timeout-sec 0 --disable-tqdm --num-prompts {count} --tokenizer {tokenizer}"
        words = f"--base-url {{url}} {asked} {trace} {quiet}"
        known.append(Peer("vLLM bench serve", (vllm, "-c", VLLM, *words.split())))
    if aiperf:
        asked = "--model mock --endpoint-type completions --streaming --fixed-schedule --ui-type none"
        trace = "--input-file {file} --custom-dataset-type mooncake_trace --tokenizer {downloaded}"
        words = f"{aiperf} profile --url {{url}} {asked} {trace} --output-artifact-dir {{folder}}/aiperf"
        known.append(Peer("aiperf", tuple(words.split())))
    if guidellm:
        asked = "--backend kind=openai_http,target={url},model=mock,request_format=/v1/completions"
        trace = "--profile kind=replay,time_scale=0.001 --tokenizer kind=huggingface_auto,model={tokenizer}"
        source = '{{"kind":"mooncake","source":{{"kind":"json_file","path":"{file}"}}}}'
        words = f"{guidellm} run {asked} {trace} --data {source} --disable-console"
        known.append(Peer("guidellm", (*words.split(), "--output", "kind=json,path={folder}/guidellm.json")))
    return known


def as_downloaded(tokenizer: Path, home: Path) -> None:
    """Lay a tokenizer out as Hugging Face's cache has what it downloaded: aiperf takes no folder."""
    there = home / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text(REVISION)
    shutil.copytree(tokenizer, there / "snapshots" / REVISION)


def trace(count: int, per_s: float, path: Path) -> NDArray[np.float64]:
    """Write Poisson arrivals of equal requests with prompts of their own; their times in seconds."""
    at = np.cumsum(np.random.default_rng(7).exponential(1 / per_s, count))
    at_ms = np.rint((at - at[0]) * 1e3).astype(int)
    rows = [
        {"timestamp": t, "input_length": PROMPT, "output_length": CHUNKS, "hash_ids": [n]}
        for n, t in enumerate(at_ms.tolist())
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return at_ms / 1e3


def send_errors(url: str, arrival_s: NDArray[np.float64], folder: Path) -> NDArray[np.float64]:
    """Seconds by which each request came late, beside the one that came earliest for its time."""
    log = folder / "log.csv"
    urllib.request.urlopen(f"{url}/ctl/dump?{log}").read()
    came_s = np.sort(pl.read_csv(log)["t_first_byte"].to_numpy())[-len(arrival_s) :] / 1e9
    if len(came_s) < len(arrival_s):
        raise RuntimeError(f"{len(came_s)} of {len(arrival_s)} requests came")
    late = came_s - arrival_s
    return late - late.min()


def measured(peer: Peer, url: str, per_s: float, seconds: float, tokenizer: Path) -> tuple[Any, float, int]:
    """Send errors, CPU seconds and requests of one replay."""
    count = round(per_s * seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrival_s = trace(count, per_s, folder / "trace.jsonl")
        urllib.request.urlopen(f"{url}/ctl/reset").read()
        told = {"file": str(folder / "trace.jsonl"), "folder": name, "count": str(count)}
        as_downloaded(tokenizer, folder / "home")
        command = peer.command(url=url, tokenizer=str(tokenizer), downloaded=REPOSITORY, **told)
        used = spent(command, HF_HOME=str(folder / "home"), HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
        return send_errors(url, arrival_s, folder), used.cpu_s, count


def row(peer: Peer, url: str, per_s: float, given: argparse.Namespace) -> dict[str, Any]:
    measured(peer, url, per_s, SHORT_S, given.tokenizer)  # what a first start reads from disk counts for nobody
    _, short_cpu_s, few = measured(peer, url, per_s, SHORT_S, given.tokenizer)
    long = [measured(peer, url, per_s, given.seconds, given.tokenizer) for _ in range(given.repeats)]
    quantiles = [np.quantile(errors, [0.5, 0.99, 1.0]) for errors, _, _ in long]
    p50, p99, most = (float(v) * 1e3 for v in np.median(quantiles, axis=0))
    return {
        "offered_per_s": per_s,
        "send_error_ms": {"p50": p50, "p99": p99, "max": most},
        "cpu_ms_a_request": float(np.median([1e3 * (cpu_s - short_cpu_s) / (count - few) for _, cpu_s, count in long])),
        "repeats": given.repeats,
    }


HEAD = "| replay | offered /s | send error p50 / p99 / max, ms | CPU a request, ms |\n|---|---|---|---|"


def line(name: str, found: dict[str, Any]) -> str:
    error = found["send_error_ms"]
    return (
        f"| {name} | {found['offered_per_s']:,.0f} | {error['p50']:.2f} / {error['p99']:.2f} / {error['max']:.1f} | "
        f"{found['cpu_ms_a_request']:.3f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How exactly others send a trace.")
    parser.add_argument("--server", type=Path, default=Path("../shared/tools/mockllm.c"))
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--vllm")
    parser.add_argument("--aiperf")
    parser.add_argument("--guidellm")
    parser.add_argument("--rates", type=float, nargs="+", default=[200, 500, 1000])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="measure on a machine that has other things to do, too")
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args(arguments)
    if not given.server.exists() or shutil.which("gcc") is None:
        print(f"left out: needs gcc and {given.server}")
        return
    if os.getloadavg()[0] > QUIET and not given.busy:
        print(f"left out: the load average is above {QUIET}; --busy measures all the same")
        return
    rows = list(side_by_side(given))
    if given.save:
        save(rows)


def side_by_side(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each rate and program, printed as it comes; what a program failed with is printed in its place."""
    print(HEAD)
    for per_s in given.rates:
        for peer in peers(given.vllm, given.aiperf, given.guidellm):
            with server(given.server, "-n", CHUNKS, "-t", TTFT_US, "-i", GAP_US) as url:
                try:
                    found = {"name": peer.name, **row(peer, url, per_s, given)}
                except (subprocess.CalledProcessError, RuntimeError) as error:
                    print(f"| {peer.name} | {per_s:,.0f} | {error} | |", flush=True)
                    continue
            print(line(peer.name, found), flush=True)
            yield found


def save(rows: list[dict[str, Any]]) -> None:
    (RESULTS / "http_peers.json").write_text(json.dumps({"machine": facts(), "rows": rows}, indent=1) + "\n")
    table = "\n".join(line(found["name"], found) for found in rows)
    (RESULTS / "http_peers.md").write_text(f"# Sending beside others\n\n{__doc__}\n{facts()}\n\n{HEAD}\n{table}\n")


if __name__ == "__main__":
    main()
