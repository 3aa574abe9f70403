"""The replays of UniBoost's reproduction: cases of a workload, an engine, a load and a seed, and what is measured."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.reproductions import uniboost_mixes as mixes
from benchmarks.reproductions.replaying import outcomes
from replay.engines.simulated import Simulated
from replay.latency_models.roofline import Roofline
from replay.simulation.costs import service_costs
from replay.simulation.hardware import gpu_preset, kv_blocks, model_preset
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits
from toolkit import plugins
from toolkit.protocols import Scheduler, ServiceCosts

GPU = "a100-80g"
ENGINES = {"memory-tight": "codellama-34b", "memory-rich": "llama-3-8b"}
BLOCK_TOKENS, LONGEST = 16, 32_768  # the longest is beyond the models' own windows, so that no request is turned away
SWAP_BYTES_PER_S = 12e9  # KV over PCIe 4.0 x16 by tensor copies: 9 to 16 GB/s as measured by 2605.19593
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
P999_FROM = 10_000  # requests
LOOKS = 100  # most times that γ-Ada looks in a replay; not more often than every 5 s


@dataclass(frozen=True)
class Case:
    """One trace under several policies: `specs` by their names in the tables."""

    part: str
    workload: str
    engine: str
    rho: float
    seed: int
    requests: int
    specs: tuple[tuple[str, str], ...]
    traces: str = ""
    swap: bool = True
    prefill_first: bool = False


@cache
def engine_of(name: str, swap: bool, prefill_first: bool) -> Simulated:
    """One A100 with the model's weights, and the KV memory that is left."""
    model = model_preset(ENGINES[name])
    limits = Limits(
        kv_blocks=kv_blocks(gpu_preset(GPU), model, BLOCK_TOKENS),
        block_tokens=BLOCK_TOKENS,
        max_model_len=LONGEST,
        prefix_caching=False,
        swap_s_per_token=model.kv_bytes_per_token / SWAP_BYTES_PER_S if swap else 0.0,
        prefill_first=prefill_first,
    )
    return Simulated(Roofline(gpu=GPU, model=ENGINES[name]), limits, closed=False, band=False)


@cache
def _lowered(name: str) -> Any:
    engine = engine_of(name, True, False)
    limits = engine.limits
    return lower(engine.model, limits.max_num_batched_tokens, limits.max_num_seqs, limits.max_model_len)


def run(case: Case) -> list[dict[str, Any]]:
    """Replay the case's trace under each of its policies: one row of figures each."""
    engine = engine_of(case.engine, case.swap, case.prefill_first)
    found = mixes.rows(case.workload, case.requests, case.seed, Path(case.traces))
    costs = service_costs(found, engine.limits, _lowered(case.engine))
    trace, info = mixes.at_load(found, case.rho, costs, case.workload)
    about = {name: getattr(case, name) for name in ("part", "workload", "engine", "rho", "seed", "requests")}
    about |= {
        "step_s": costs.step_s,
        "prefill_s_per_token": costs.prefill_s_per_token,
        "decode_s_per_token": costs.decode_s_per_token,
        "span_s": info.span_s,
    }
    about["root"] = root = _root(trace, costs)
    rows = []
    for name, spec in case.specs:
        policy = scheduler(spec, root, float(info.span_s or 0.0))
        ended, summary = outcomes(trace, info, policy, engine)
        last = {"gamma": getattr(policy, "gamma", None)}
        rows.append({**about, "policy": name, "spec": spec, **figures(ended, summary), **last})
    return rows


def scheduler(spec: str, root: float, span_s: float) -> Scheduler:
    """The policy; `gamma=0.1x` is a tenth of the root, and who watches does so at most LOOKS times in the span."""
    absolute = re.sub(r"gamma=([0-9.]+)x", lambda found: f"gamma={float(found[1]) * root!r}", spec)
    made: Any = plugins.create("scheduler", absolute)
    if callable(getattr(made, "observe", None)):
        made.observe_every_s = max(made.observe_every_s, span_s / LOOKS)
    policy: Scheduler = made
    return policy


def _root(trace: pl.DataFrame, costs: ServiceCosts) -> float:
    """γ as the boosting policies find it in the trace (per second of service)."""
    learned = plugins.create("scheduler", "distboost")
    learned.serve_on(costs)
    learned.rank(trace, 0.0)
    return float(learned.root)


def figures(ended: pl.DataFrame, summary: Mapping[str, Any]) -> dict[str, Any]:
    """TTLT and TTFT (seconds), preemptions and throughput of one replay."""
    assert (ended["status"] == "ok").all(), "a request was turned away"
    first_s = ended["arrival_s"].min()
    last_s = ended["finish_s"].max()
    found: dict[str, Any] = {"utilisation": summary["utilisation"], "preemptions": summary["preemptions"]}
    found["tokens_per_s"] = int(ended["output_tokens"].sum()) / (last_s - first_s)  # type: ignore[operator]
    for name, column in (("ttlt", "finish_s"), ("ttft", "first_token_s")):
        found |= _quantiles(name, (ended[column] - ended["arrival_s"]).to_numpy())
    later = ended.filter(pl.col("output_tokens") > 1)
    gap = (later["finish_s"] - later["first_token_s"]) / (later["output_tokens"] - 1)
    return found | {"tpot_p99": float(np.quantile(gap.to_numpy(), 0.99))}


def _quantiles(name: str, times_s: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, float | None]:
    found: dict[str, float | None] = {f"{name}_mean": float(times_s.mean())}
    found |= {f"{name}_{label}": float(np.quantile(times_s, q)) for label, q in QUANTILES.items()}
    enough = len(times_s) >= P999_FROM
    return found | {f"{name}_p999": float(np.quantile(times_s, 0.999)) if enough else None}


def processors() -> int:
    """How many replays run at once."""
    return min(2, os.cpu_count() or 1)


def seeds(case: Case, count: int) -> list[Case]:
    """The case with each of `count` seeds."""
    return [replace(case, seed=seed) for seed in range(count)]
