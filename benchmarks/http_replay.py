"""How exactly, how fast and how cheaply a trace is sent, as the server saw it.

    python -m benchmarks http_replay [--server mockllm.c] [--seconds S] [--save]

Poisson arrivals against a server in C on the same machine that is never what limits a Python client. Send error is the
time between the intended instant and the first byte at the server, by the server's own clock; TTFT overhead is what the
client reports beyond what passed at the server.
"""

import argparse
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import TRACE, facts, oversleeping
from toolkit.runs import Run
from toolkit.schema import TRACE as COLUMNS
from toolkit.schema import conform
from toolkit.traces import Trace, TraceInfo, write_trace

RESULTS = Path(__file__).parent / "results"
GAP_US, TTFT_US, CHUNKS = 5_000, 20_000, 16


def trace(count: int, per_s: float, path: Path, prompt_tokens: int = 512) -> None:
    """Poisson arrivals of equal requests, as canonical Parquet."""
    at = np.cumsum(np.random.default_rng(7).exponential(1 / per_s, count))
    frame = pl.DataFrame({"request_id": np.arange(count), "arrival_s": at - at[0]})
    frame = frame.with_columns(prompt_tokens=prompt_tokens, output_tokens=CHUNKS)
    whole = conform(frame, COLUMNS, source="benchmark")
    info = TraceInfo("poisson", "canonical", f"{per_s}", count, count, span_s=float(at[-1] - at[0]))
    write_trace(Trace(whole.lazy(), info), path)


@contextmanager
def server(source: Path, *arguments: object) -> Iterator[str]:
    """The compiled server, for as long as the block runs; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "mockllm"
        subprocess.run(["gcc", "-O2", "-o", program, source, "-lm"], check=True)
        port = free_port()
        process = subprocess.Popen([program, "-p", str(port), *map(str, arguments)])
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    """Until something listens."""
    for _ in range(200):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def replayed(url: str, file: Path, out: Path, *options: object) -> Run:
    """Replay `file`; a run that was late is a result too."""
    words = [*TRACE, "replay", file, "--engine", "openai", "--url", url, "--out", out, *options]
    subprocess.run([str(w) for w in words], check=False, stdout=subprocess.DEVNULL)
    return Run.open(out / "fcfs")


def at_server(url: str, run: Run, folder: Path) -> pl.DataFrame:
    """What the server logged of each request, in seconds of the trace's clock."""
    log = folder / "log.csv"
    urllib.request.urlopen(f"{url}/ctl/dump?{log}").read()
    epoch_s = run.info["stretches"][0]["epoch_s"]
    clock = ("t_first_byte", "t_first_tok", "t_end")
    seen = pl.read_csv(log).filter(pl.col("tag") >= 0)
    return seen.select(pl.col("tag").alias("request_id"), *((pl.col(c) / 1e9 - epoch_s).alias(c) for c in clock))


def measured(source: Path, per_s: float, seconds: float, *options: object, gap_us: int = GAP_US) -> dict[str, Any]:
    """One replay at `per_s` and what the server saw of it."""
    with (
        tempfile.TemporaryDirectory() as name,
        server(source, "-n", CHUNKS, "-t", TTFT_US if gap_us else 0, "-i", gap_us) as url,
    ):
        folder = Path(name)
        trace(round(per_s * seconds), per_s, folder / "trace.parquet")
        run = replayed(url, folder / "trace.parquet", folder / "run", *options)
        both = run.table("outcomes").collect().join(at_server(url, run, folder), on="request_id")
    return row(run, both, per_s)


def row(run: Run, both: pl.DataFrame, per_s: float) -> dict[str, Any]:
    error = (both["t_first_byte"] - both["arrival_s"]).to_numpy() * 1e3
    true = both["t_first_tok"] - both["t_first_byte"]
    over = (both["first_token_s"] - both["sent_s"] - true).to_numpy() * 1e3
    span_s = float(both["t_first_byte"].max() - both["t_first_byte"].min())  # type: ignore[operator]
    cpu_s = sum(s["cpu_s"] for s in run.info["stretches"])
    return {
        "offered_per_s": per_s,
        "achieved_per_s": len(both) / span_s,
        "send_error_ms": quantiles(error),
        "ttft_overhead_ms": quantiles(over),
        "cpu_ms_a_request": 1e3 * cpu_s / len(both),
        "peak_bytes": max(run.info["validity"]["peak_bytes"]),
        "verdict": run.info["verdict"],
        "ok": int((both["status"] == "ok").sum()),
        "requests": len(both),
    }


def quantiles(values: Any) -> dict[str, float]:
    return {f"p{q:g}": float(np.quantile(values, q / 100)) for q in (50, 99, 100)}


def line(name: str, found: dict[str, Any]) -> str:
    error, over = found["send_error_ms"], found["ttft_overhead_ms"]
    return (
        f"| {name} | {found['offered_per_s']:,.0f} → {found['achieved_per_s']:,.0f} | "
        f"{error['p50']:.2f} / {error['p99']:.2f} / {error['p100']:.1f} | {over['p50']:.2f} / {over['p99']:.2f} | "
        f"{found['cpu_ms_a_request']:.3f} | {found['peak_bytes'] / 2**20:.0f} | {found['verdict']} |"
    )


HEAD = (
    "| replay | offered → achieved /s | send error p50 / p99 / max, ms | TTFT overhead p50 / p99, ms "
    "| CPU a request, ms | MB a worker | verdict |\n|---|---|---|---|---|---|---|"
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How exactly a trace is sent.")
    parser.add_argument("--server", type=Path, default=Path("../shared/tools/mockllm.c"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args(arguments)
    if not given.server.exists() or shutil.which("gcc") is None:
        print(f"left out: needs gcc and {given.server}")
        return
    cases: dict[str, tuple[Any, ...]] = {
        "pooled, 500/s": (500, given.seconds),
        "pooled, 1000/s": (1000, given.seconds),
        "fresh, 1000/s": (1000, given.seconds, "--connections", "fresh"),
        "as fast as it can, no gaps": (12_000, 3.0),
    }
    rows = {}
    late = oversleeping()
    print(f"the machine wakes late by {late}\n{HEAD}")
    for name, case in cases.items():
        rows[name] = measured(given.server, *case, gap_us=0 if "gaps" in name else GAP_US)
        print(line(name, rows[name]), flush=True)
    if given.save:
        save(rows, facts() | {"wakes late by": late})


def save(rows: dict[str, Any], about: dict[str, str]) -> None:
    (RESULTS / "http_replay.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    table = "\n".join(line(name, found) for name, found in rows.items())
    listed = "\n".join(f"- {key}: {value}" for key, value in about.items())
    (RESULTS / "http_replay.md").write_text(f"# Sending over HTTP\n\n{__doc__}\n{HEAD}\n{table}\n\n{listed}\n")


if __name__ == "__main__":
    main()
