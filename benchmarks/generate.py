"""Rows a second and peak memory of `trace generate`, beside only writing the same rows.

    python -m benchmarks.generate [--rows N] [--save]

Each program runs in a process of its own. The limit is polars writing the finished frame, all of it in memory, with the
same compression; its time does not count reading the frame.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

import polars as pl

from benchmarks.machine import TRACE, facts, spent

RESULTS = Path(__file__).parent / "results"
DAY_S = 86_400
LENGTHS = "prompt_tokens: {median: 700, sigma: 0.8}, output_tokens: {median: 240, sigma: 0.7}"
SPECS = {
    "Poisson by day, 100 models, 50 tenants": (1, "{rate_per_s: $rate, daily: {amplitude: 0.6}, models: {count: 100, "
        "zipf: 1.1}, tenants: {count: 50, zipf: 1}, " + LENGTHS + "}"),
    "10 groups among 100 models": (1, "{generator: groups, models: {count: 100, zipf: 0.8}, background_per_s: $rate, "
        "groups: [" + ", ".join(["{size: 4, rate_per_s: 2, every_s: 3600, for_s: 120}"] * 10) + "], " + LENGTHS + "}"),
    "sessions of 4 turns": (4, "{rate_per_s: $rate, models: {count: 10}, sessions: {turns: 4}, " + LENGTHS + "}"),
    "shared prefixes (a tenth of the rows)": (10, "{rate_per_s: $rate, models: {count: 10}, prefixes: {system_tokens: "
        "512, documents: 100}, " + LENGTHS + "}"),
}  # fmt: skip
WRITE = """
import sys, time, polars as pl
frame = pl.read_parquet(sys.argv[1])
began, cpu = time.perf_counter(), time.process_time()
frame.write_parquet(sys.argv[2], compression="zstd", compression_level=1)
print(time.perf_counter() - began, time.process_time() - cpu)
"""


@dataclass(frozen=True)
class Row:
    """What one workload took, and what writing its rows alone takes."""

    workload: str
    rows: int
    file_mb: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    write_wall_s: float
    write_cpu_s: float

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.wall_s


def measure(name: str, rows: int, folder: Path) -> Row:
    """Generate `rows` (about), then write them."""
    fewer, stream = SPECS[name]
    spec, out, copy = folder / "spec.yaml", folder / "t.parquet", folder / "copy.parquet"
    rate = rows / fewer / DAY_S
    spec.write_text(f"span_s: {DAY_S}\nstreams:\n- {Template(stream).substitute(rate=rate)}\n")
    out.unlink(missing_ok=True)
    made = spent([*TRACE, "generate", spec, "--out", out, "--seed", 7])
    copied = spent([TRACE[0], "-c", WRITE, out, copy])
    write_wall_s, write_cpu_s = (float(value) for value in copied.output.split())
    written = pl.scan_parquet(out).select(pl.len()).collect().item()
    return Row(
        name,
        written,
        out.stat().st_size / 1e6,
        made.wall_s,
        made.cpu_s,
        made.peak_bytes / 1e6,
        write_wall_s,
        write_cpu_s,
    )


def table(rows: list[Row]) -> str:
    head = "| workload | rows | file MB | rows/s | CPU µs a row | peak MB | limit: rows/s written | of the limit |\n"
    body = "".join(
        f"| {r.workload} | {r.rows:,} | {r.file_mb:.0f} | {r.rows_per_s:,.0f} | {1e6 * r.cpu_s / r.rows:.2f} | "
        f"{r.peak_mb:.0f} | {r.rows / r.write_wall_s:,.0f} | {r.write_wall_s / r.wall_s:.2f} |\n"
        for r in rows
    )
    return f"{head}|---|---|---|---|---|---|---|---|\n{body}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/generate.{md,json}")
    options = parser.parse_args()
    machine = facts()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, options.rows, Path(folder)) for name in SPECS]
    print(table(rows))
    if options.save:
        about = "; ".join(f"{key} {value}" for key, value in machine.items())
        head = f"# Generating traces\n\n`python -m benchmarks.generate`: {about}.\n\n"
        (RESULTS / "generate.md").write_text(head + table(rows))
        record = {"machine": machine, "rows": [asdict(row) for row in rows]}
        (RESULTS / "generate.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
