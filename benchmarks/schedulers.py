"""What every scheduler costs the simulated engine, beside FCFS on the same requests in the same run.

    python -m benchmarks.schedulers [--requests N] [--traces FOLDER] [--save]

Generated traffic with the lengths of the Azure 2023 conversation trace (lognormals like them where it is absent), four
tenants and three tiers, on one H100 with Llama-3.1-8B; CPU seconds of the core and of what it asks the scheduler. A
policy that displaces gives the engine more to simulate: the table says how many preemptions there were, and what a
placement costs, of which a request has one and one more for each preemption. A policy that is asked during the replay
decides about each request that it is shown, to learn from, to rank or to order: what it takes beyond FCFS is also
given for each of those.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import traffic
from benchmarks.machine import facts
from benchmarks.simulation import HIGH, MODERATE, RESULTS
from replay.latency_models.roofline import Roofline
from replay.simulation.driver import Driver
from replay.simulation.latency import Latency
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits
from toolkit import plugins
from toolkit.protocols import Scheduler
from toolkit.traces import TraceInfo

LOADS = {"moderate": MODERATE, "high": HIGH}
HEAD = (
    "| load | scheduler | core CPU s | against fcfs | thousand requests a CPU second | preemptions a request "
    "| CPU µs a placement | CPU µs a request shown |\n|---|---|---|---|---|---|---|---|"
)
TIERS, TENANTS = ("premium", "standard", "batch"), ("a", "b", "c", "d")


def requests(count: int, per_s: float, traces: Path) -> pl.DataFrame:
    """Generated requests with tiers and tenants in turn."""
    drawn = traffic.generated(count, per_s, traffic.conversation(traces))
    return drawn.with_columns(tier=_cycle(TIERS), tenant=_cycle(TENANTS))


def _cycle(names: Sequence[str]) -> pl.Expr:
    return (pl.int_range(pl.len()) % len(names)).replace_strict(dict(enumerate(names)), return_dtype=pl.String)


class Counting:
    """A scheduler that counts the requests it is shown during a replay."""

    def __init__(self, scheduler: Any):
        self.shown = 0
        for name in ("rank", "observe", "order"):
            if callable(getattr(scheduler, name, None)):
                setattr(scheduler, name, self._counted(getattr(scheduler, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(requests: Any, now_s: float) -> Any:
            self.shown += len(requests)
            return method(requests, now_s)

        return counted


def timed(trace: pl.DataFrame, spec: str, limits: Limits, latency: Latency, times: int) -> dict[str, Any]:
    """The fastest of `times` replays under one scheduler."""
    info = TraceInfo("generated", "canonical", "", len(trace), len(trace), span_s=float(trace["arrival_s"][-1]))
    best: dict[str, Any] = {}
    for _ in range(times):
        scheduler: Scheduler = plugins.create("scheduler", spec)
        counting = Counting(scheduler)
        driver = Driver.prepare(trace, info, scheduler, limits, latency, closed=False)
        driver.compile()
        counting.shown = 0  # the whole trace was, once
        began = time.thread_time()
        driver.exhaust()
        core_s = time.thread_time() - began
        if not best or core_s < best["core_s"]:
            summary = driver.summary()
            best = {name: summary[name] for name in ("steps", "preemptions")} | {
                "core_s": core_s,
                "shown": counting.shown,
            }
    return best


def measure(count: int, traces: Path, specs: Sequence[str], times: int) -> list[dict[str, Any]]:
    """A row for each load and scheduler; FCFS first."""
    rows = []
    for load, (per_s, blocks) in LOADS.items():
        trace = requests(count, per_s, traces)
        limits = Limits(kv_blocks=blocks, max_num_seqs=256, max_num_batched_tokens=2048, prefix_caching=False)
        latency = lower(Roofline(gpu="h100", model="llama-3.1-8b"), 2048, 256, limits.max_model_len)
        for spec in specs:
            rows.append({"load": load, "scheduler": spec, **timed(trace, spec, limits, latency, times)})
            fcfs_s = next(r["core_s"] for r in rows if r["load"] == load)
            rows[-1] |= {"against_fcfs": rows[-1]["core_s"] / fcfs_s, "beyond_fcfs_s": rows[-1]["core_s"] - fcfs_s}
            print(_line(rows[-1], count), flush=True)
    return rows


def _line(row: dict[str, Any], count: int) -> str:
    preemptions = row["preemptions"] / count
    placed = count + row["preemptions"]
    each = f"{1e6 * row['beyond_fcfs_s'] / row['shown']:.2f}" if row["shown"] else "–"
    return (
        f"| {row['load']} | {row['scheduler']} | {row['core_s']:.2f} | {row['against_fcfs']:.2f} | "
        f"{count / row['core_s'] / 1e3:,.0f} | {preemptions:.2f} | {1e6 * row['core_s'] / placed:.2f} | {each} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What every scheduler costs the simulated engine.")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"))
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args(arguments)
    others = [name for name in plugins.plugins("scheduler") if name != "fcfs"]
    print(HEAD)
    rows = measure(given.requests, given.traces, ["fcfs", *others], given.times)
    if given.save:
        found = {"machine": facts(), "requests": given.requests, "rows": rows}
        (RESULTS / "schedulers.json").write_text(json.dumps(found, indent=1) + "\n")
        lines = [_line(row, given.requests) for row in rows]
        text = f"{__doc__}\n{given.requests:,} requests. {facts()}\n\n{HEAD}\n"
        (RESULTS / "schedulers.md").write_text("# Schedulers\n\n" + text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
