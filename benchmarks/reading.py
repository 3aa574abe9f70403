"""Time and memory of reading 5,000,000 BurstGPT rows, beside a polars scan and pandas scripts that do the same work.

    python -m benchmarks.reading [ROWS]

Each program runs in a process of its own, once to warm the file cache and then REPEATS times; the fastest counts.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

ROWS = 5_000_000
REPEATS = 3

POLARS_SCAN = """
import sys, polars as pl
frame = pl.scan_csv(sys.argv[1])
frame.select(pl.len(), pl.col("Timestamp").max(), pl.col("Request tokens").mean(), pl.col("Model").n_unique()).collect(
    engine="streaming")
"""
READ = """
import sys
from toolkit.traces import read_trace
read_trace([sys.argv[1]])
"""
PANDAS_CONVERT = """
import sys, pandas as pd
frame = pd.read_csv(sys.argv[1])
frame = frame[frame["Timestamp"].notna()].sort_values("Timestamp", kind="stable", ignore_index=True)
repeats = int(frame.duplicated().sum())
out = pd.DataFrame({
    "request_id": frame.index, "arrival_s": (frame["Timestamp"] - frame["Timestamp"].iloc[0]).astype("float64"),
    "model": frame["Model"], "kind": frame["Log Type"],
    "prompt_tokens": frame["Request tokens"].astype("int32"), "output_tokens": frame["Response tokens"].astype("int32"),
})
out["source_status"] = (frame["Response tokens"] == 0).map({True: "failed", False: "ok"})
out.to_parquet(sys.argv[2], compression="zstd")
"""
PANDAS_ANALYZE = """
import sys, numpy as np, pandas as pd
frame = pd.read_csv(sys.argv[1]).sort_values("Timestamp", kind="stable")
arrival = frame["Timestamp"] - frame["Timestamp"].iloc[0]
gaps = np.diff(arrival)
print(len(frame), len(frame) / arrival.iloc[-1], gaps.std() / gaps.mean(), int(frame.duplicated().sum()))
for window in (1, 10, 60, 600):
    counts = np.bincount((arrival // window).astype(int))
    print(window, counts.var() / counts.mean())
for column in ("Request tokens", "Response tokens"):
    print(frame[column].mean(), frame[column].quantile([0.5, 0.9, 0.95, 0.99]).to_list(), frame[column].max())
print(frame["Model"].value_counts(normalize=True).head(10))
print(frame[["Request tokens", "Response tokens"]].corr("spearman"))
"""


@dataclass(frozen=True)
class Program:
    """A Python program that reads argv[1] and may write argv[2]."""

    name: str
    arguments: tuple[str, ...]
    rival: str | None = None  # the program its ratio is taken to


def programs(source: Path, target: Path) -> list[Program]:
    cli = ("-c", "from toolkit.cli import main; main()")
    files = (str(source), str(target))
    return [
        Program("polars scan", ("-c", POLARS_SCAN, *files)),
        Program("trace: read", ("-c", READ, *files), "polars scan"),
        Program("pandas convert", ("-c", PANDAS_CONVERT, *files)),
        Program("trace convert", (*cli, "convert", *files), "pandas convert"),
        Program("pandas analyze", ("-c", PANDAS_ANALYZE, *files)),
        Program("trace analyze", (*cli, "analyze", str(source)), "pandas analyze"),
    ]


def measure(program: Program, target: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident MB of the fastest of REPEATS runs."""
    return min(_run(program, target) for _ in range(REPEATS))


def _run(program: Program, target: Path) -> tuple[float, float, float]:
    target.unlink(missing_ok=True)
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    script += "r = resource.getrusage(resource.RUSAGE_CHILDREN); print(r.ru_utime + r.ru_stime, r.ru_maxrss)"
    began = time.perf_counter()
    command = [sys.executable, "-c", script, sys.executable, *program.arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall_s = time.perf_counter() - began
    cpu_s, peak = (float(value) for value in done.stdout.split())
    return wall_s, cpu_s, peak / (2**20 if sys.platform == "darwin" else 2**10)


def write_burstgpt(path: Path, rows: int, seed: int = 1) -> None:
    """Generated traffic in BurstGPT's columns: Poisson arrivals in whole seconds, lognormal lengths, two models."""
    rng = np.random.default_rng(seed)
    prompt = np.minimum(rng.lognormal(6, 1, rows), 8192).astype(np.int64) + 1
    output = np.minimum(rng.lognormal(5, 1, rows), 4096).astype(np.int64)
    pl.DataFrame(
        {
            "Timestamp": np.cumsum(rng.exponential(1.0, rows)).astype(np.int64),
            "Model": np.where(rng.random(rows) < 0.8, "ChatGPT", "GPT-4"),
            "Request tokens": prompt,
            "Response tokens": output,
            "Total tokens": prompt + output,
            "Log Type": np.where(rng.random(rows) < 0.5, "Conversation log", "API log"),
        }
    ).write_csv(path)


def main(rows: int = ROWS) -> None:
    """Print a table: wall and CPU seconds, peak memory, and the ratio to the rival."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "burstgpt.csv", Path(folder) / "out.parquet"
        write_burstgpt(source, rows)
        print(f"{rows:,} rows, {source.stat().st_size / 1e6:.0f} MB")
        print(f"{'program':<16}{'wall s':>8}{'CPU s':>8}{'MB':>7}  of rival's wall, memory")
        found: dict[str, tuple[float, float, float]] = {}
        for program in programs(source, target):
            wall_s, cpu_s, peak_mb = found[program.name] = measure(program, target)
            ratio = ""
            if program.rival is not None:
                rival = found[program.rival]
                ratio = f"  {wall_s / rival[0]:.2f}×, {peak_mb / rival[2]:.2f}×"
            print(f"{program.name:<16}{wall_s:>8.2f}{cpu_s:>8.2f}{peak_mb:>7.0f}{ratio}", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
