"""Time and memory of `trace analyze` on a large Parquet trace, beside a raw scan, DuckDB and pandas.

    python -m benchmarks analysis [--rows N] [--save]

Each program runs in a process of its own, REPEATS times; the fastest counts. The limit is a scan by polars that sums
every column the analysis reads, names by their numbers. DuckDB and pandas do a part of the work: rate, gaps, counts a
minute, quantiles of both lengths, requests of each model and tenant, their correlation; no fits, intervals, sessions,
concurrency or idle times.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.drift import large
from benchmarks.machine import TRACE, Spent, facts, made_apart, spent

RESULTS = Path(__file__).parent / "results"
REPEATS = 2
SCAN = """
import sys, polars as pl
columns = ["request_id", "arrival_s", "model", "tenant", "prompt_tokens", "output_tokens"]
texts = [pl.col(c).to_physical().sum() for c in ("model", "tenant")]
numbers = [pl.col(c).sum() for c in columns if c not in ("model", "tenant")]
print(pl.scan_parquet(sys.argv[1]).select(*texts, *numbers).collect(engine="streaming"))
"""
DUCKDB = """
import sys, duckdb
con = duckdb.connect()
con.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet('{sys.argv[1]}')")
for query in (
    "SELECT count(*), count(*) / max(arrival_s), corr(prompt_tokens, output_tokens) FROM t",
    "SELECT stddev(gap) / avg(gap) FROM (SELECT arrival_s - lag(arrival_s) OVER (ORDER BY arrival_s) gap FROM t)",
    "SELECT var_samp(n) / avg(n) FROM (SELECT count(*) n FROM t GROUP BY arrival_s // 60)",
    "SELECT quantile_cont(prompt_tokens, [0.5, 0.9, 0.95, 0.99]), quantile_cont(output_tokens, [0.5, 0.9, 0.95, 0.99])"
    " FROM t",
    "SELECT model, count(*) n FROM t GROUP BY model ORDER BY n DESC",
    "SELECT tenant, count(*) n FROM t GROUP BY tenant ORDER BY n DESC",
):
    print(con.execute(query).fetchall()[:3])
"""
PANDAS = """
import sys, numpy as np, pandas as pd
t = pd.read_parquet(sys.argv[1], columns=["arrival_s", "model", "tenant", "prompt_tokens", "output_tokens"])
gaps = np.diff(t["arrival_s"])
print(len(t), len(t) / t["arrival_s"].iloc[-1], gaps.std() / gaps.mean())
counts = np.bincount((t["arrival_s"] // 60).astype(int))
print(counts.var() / counts.mean(), t["prompt_tokens"].corr(t["output_tokens"]))
for column in ("prompt_tokens", "output_tokens"):
    print(t[column].quantile([0.5, 0.9, 0.95, 0.99]).to_list())
for column in ("model", "tenant"):
    print(t[column].value_counts().head(3))
"""
PROGRAMS = {
    "raw scan (polars)": (sys.executable, "-c", SCAN),
    "DuckDB, a part of the work": (sys.executable, "-c", DUCKDB),
    "pandas, a part of the work": (sys.executable, "-c", PANDAS),
    "trace analyze": (*TRACE, "analyze", "--json"),
    "trace analyze --groups --drift": (*TRACE, "analyze", "--groups", "--drift", "--json"),
}


def measure(path: Path, repeats: int) -> dict[str, Spent]:
    """The fastest run of each program."""
    found = {}
    for name, command in PROGRAMS.items():
        found[name] = min((spent([*command, path]) for _ in range(repeats)), key=lambda one: one.wall_s)
        print(name, f"{found[name].wall_s:.1f} s", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, Spent]) -> str:
    """A row a program, with its time over the scan's."""
    scan = found["raw scan (polars)"]
    lines = ["| program | wall s | CPU s | GB at most | wall, of the scan |", "|---|---|---|---|---|"]
    for name, one in found.items():
        ratio = f"{one.wall_s / scan.wall_s:.1f}"
        lines.append(f"| {name} | {one.wall_s:.1f} | {one.cpu_s:.1f} | {one.peak_bytes / 1e9:.2f} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table; with --save it goes to results/analysis-ROWS.md and .json too."""
    parser = argparse.ArgumentParser(description="Time and memory of trace analyze.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    about = facts()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.parquet"
        made_apart(large, path, given.rows)
        size, found = path.stat().st_size, measure(path, given.repeats)
    models = "100 models, 200 tenants, a day, outputs that grow by half at noon"
    head = f"# Analysing {given.rows:,} requests\n\n{str(__doc__).split(chr(10), 4)[4].strip()}\n\n"
    text = f"{head}{given.rows:,} rows ({models}), {size / 1e6:,.0f} MB of Parquet.\n\n{table(found)}"
    text += "\n" + "\n".join(f"- {key}: {value}" for key, value in about.items()) + "\n"
    print(text)
    if given.save:
        name = f"analysis-{given.rows // 1_000_000}m"
        (RESULTS / f"{name}.md").write_text(text)
        rows = {program: vars(one) | {"output": ""} for program, one in found.items()}
        (RESULTS / f"{name}.json").write_text(json.dumps({"machine": about, "programs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
