"""Runs as an engine would leave them, made here: one queue, several models, a burst, failures and hostile names."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from toolkit.metrics import LATENCIES
from toolkit.runs import RunWriter

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "=cmd()",
    "abc\u202egnp.exe",
    "n" * 300,
    "<b>bold</b> & %{x} $x$",
)
MODELS = ("llama-3.1-8b", "qwen3-30b-a3b", "mistral-24b")


@dataclass(frozen=True)
class Recipe:
    """What to make; `order` is fcfs or sjf-like (short requests overtake), which only changes the waits."""

    name: str = "fcfs"
    requests: int = 3_000
    load: float = 0.9
    seed: int = 7
    models: tuple[str, ...] = MODELS
    failed: float = 0.01
    short_first: bool = False
    state: str = "finished"
    saturated: float | None = None  # by how much of itself 5 % of step time moves each latency; None: no SENSITIVITY


def outcomes(recipe: Recipe) -> pl.DataFrame:
    """OUTCOMES of a single queue in arrival order (Lindley's recursion), with a burst in the middle."""
    rng = np.random.default_rng(recipe.seed)
    n = recipe.requests
    output = np.clip(rng.lognormal(5.0, 0.8, n), 1, 4_000).astype(np.int32)
    prompt = np.clip(rng.lognormal(6.3, 1.2, n), 1, 60_000).astype(np.int32)
    model = rng.choice(len(recipe.models), n, p=_shares(len(recipe.models)))
    prefill, decode = prompt * 2e-5 + 0.01, output * 0.008 * (1 + 0.4 * model)
    busy = (prefill + decode) / 24  # of the engine, which serves about 24 at a time
    gaps = rng.exponential(busy.mean() / recipe.load, n)
    gaps[n // 2 : n // 2 + n // 10] /= 3
    arrival = np.cumsum(gaps) - gaps[0]
    work = np.cumsum(busy)
    start = work - busy + np.maximum.accumulate(arrival - (work - busy))
    wait = np.maximum(start - arrival, 0)
    wait *= np.clip(output / output.mean(), 0.05, 3) if recipe.short_first else 1.0
    preempted = np.where(rng.random(n) < 0.03, rng.exponential(2.0, n), 0.0)
    first = arrival + wait + prefill
    finish = first + decode + preempted
    status = np.where(rng.random(n) < recipe.failed, rng.choice(["rejected", "timeout", "error"], n), "ok")
    ok = status == "ok"
    frame = pl.DataFrame(
        {
            "request_id": np.arange(n),
            "model": np.array(recipe.models, dtype=object)[model].tolist(),
            "tenant": [f"tenant-{t}" for t in rng.integers(0, 5, n)],
            "tier": np.where(rng.random(n) < 0.3, "paid", "free"),
            "engine": ["simulated"] * n,
            "arrival_s": arrival,
            "sent_s": arrival,
            "start_s": np.where(ok, arrival + wait, np.nan),
            "first_token_s": np.where(ok, first, np.nan),
            "finish_s": np.where(ok, finish, np.nan),
            "prompt_tokens": prompt,
            "cached_tokens": np.zeros(n, dtype=np.int32),
            "output_tokens": np.where(ok, output, 0).astype(np.int32),
            "preemptions": (preempted > 0).astype(np.int32),
            "preempted_s": preempted,
            "alone_s": prefill + decode,
            "attempts": np.ones(n, dtype=np.int32),
            "slo_ttft_s": np.full(n, 2.0),
            "slo_tpot_s": np.full(n, 0.02),
            "status": status,
        }
    )
    return frame.with_columns(pl.col("start_s", "first_token_s", "finish_s").fill_nan(None))


def _shares(models: int) -> np.ndarray:
    weights = 1 / np.arange(1, models + 1)
    return weights / weights.sum()


def timeline(frame: pl.DataFrame) -> pl.DataFrame:
    """TIMELINE: a thousand samples of queue, running and KV use, counted from the outcomes, as of the first model."""
    known = frame.drop_nulls("finish_s")
    arrival, start, finish = (np.sort(known[c].to_numpy()) for c in ("arrival_s", "start_s", "finish_s"))
    at = np.linspace(0, float(finish[-1]), 1_000)
    begun = np.searchsorted(start, at)
    running = begun - np.searchsorted(finish, at)
    return pl.DataFrame(
        {
            "time_s": at,
            "gpu": ["gpu-0"] * len(at),
            "model": [frame["model"][0]] * len(at),
            "kv_bytes": np.minimum(running * 40, 4_000).astype(np.int64) * 2**21,
            "queue": (np.searchsorted(arrival, at) - begun).astype(np.int32),
            "running": running.astype(np.int32),
            "kv_used_blocks": np.minimum(running * 40, 4_000).astype(np.int64),
            "kv_total_blocks": np.full(len(at), 4_096),
            "step_s": np.full(len(at), 0.02),
        }
    )


def events(frame: pl.DataFrame) -> pl.DataFrame:
    """EVENTS: a preemption for each request that lost the engine, a few loads of weights and an eviction."""
    lost = frame.filter((pl.col("preempted_s") > 0) & (pl.col("status") == "ok"))
    preempt = lost.select(
        time_s=pl.col("first_token_s"), kind=pl.lit("preempt"), gpu=pl.lit("gpu-0"), model="model",
        request_id="request_id", duration_s="preempted_s",
    )  # fmt: skip
    span = float(frame["arrival_s"].max() or 0)
    load = pl.DataFrame({"time_s": [0.0, span / 3, span / 2], "kind": ["load"] * 3, "gpu": ["gpu-0"] * 3})
    first = frame["model"].unique(maintain_order=True).head(1).to_list() * 3
    weights = {"bytes": pl.lit(16 * 2**30, dtype=pl.Int64), "model": pl.Series(first, dtype=pl.String)}
    load = load.with_columns(duration_s=pl.lit(4.0), **weights)
    evict = load.head(1).with_columns(kind=pl.lit("evict"), time_s=pl.lit(span / 4), duration_s=pl.lit(0.2))
    return pl.concat([preempt, load, evict], how="diagonal")


def sensitivity(frame: pl.DataFrame, moved: float) -> pl.DataFrame:
    """SENSITIVITY: every latency longer by `moved` for each 5 % of step time, and shorter by half of that."""
    done = frame.filter(pl.col("status") == "ok").with_columns(**LATENCIES)
    levels = np.unique(np.append(1 - np.geomspace(0.9, 1e-4, 30), [0.5, 0.9, 0.95, 0.99, 0.999])).round(6)
    parts = []
    for scale in (0.9, 0.95, 1.0, 1.05, 1.1):
        twentieths = (scale - 1) * 20
        factor = 1 + moved * (twentieths if twentieths > 0 else twentieths / 2)
        for metric in ("ttft_s", "tpot_s", "e2e_s", "queueing_delay_s"):
            values = np.quantile(done[metric].drop_nulls().to_numpy(), levels) * factor
            rows = {"step_time_scale": scale, "metric": metric, "quantile": levels, "value": values}
            parts.append(pl.DataFrame(rows))
    return pl.concat(parts)


def make_run(folder: Path, recipe: Recipe) -> Path:
    """Write one run folder under `folder` and return it."""
    path = folder / f"run-{recipe.seed}-{abs(hash(recipe)) % 10**8}"
    frame = outcomes(recipe)
    writer = RunWriter.create(path, _info(recipe, path.name))
    for part in frame.iter_slices(250_000):
        writer.append("outcomes", part)
    writer.append("timeline", timeline(frame))
    writer.append("events", events(frame))
    if recipe.saturated is not None:
        writer.append("sensitivity", sensitivity(frame, recipe.saturated))
    if recipe.state == "finished":
        writer.finish(verdict="VALID", requests=frame.height, utilisation=recipe.load, simulation_cpu_s=1.25)
    return path


def _info(recipe: Recipe, run_id: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "name": recipe.name,
        "trace": {
            "name": "synthetic <day>", "format": "csv", "sha256": "ab" * 32, "rows_read": recipe.requests + 3,
            "rows_kept": recipe.requests, "dropped": {"NaN arrival": 2, "<i>zero</i> tokens": 1}, "span_s": 100.0,
            "time_unit": "s", "time_unit_reason": "the column is called seconds", "clock_step_s": 0.001, "notes": [],
        },
        "engine": {
            "name": "simulated",
            "limits": {"kv_blocks": 4096, "block_tokens": 16, "max_num_seqs": 256, "max_num_batched_tokens": 8192},
        },
        "scheduler": {"name": recipe.name, "parameters": {}},
        "selection": {},
        "seed": recipe.seed,
        "command": f"trace replay day.csv --engine simulated --scheduler '{recipe.name}' --out RUNS/",
        "offered_load": recipe.load,
    }  # fmt: skip
