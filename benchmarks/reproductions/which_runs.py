"""The sweep behind "which scheduler for which traffic": traffic × load × memory × policy, over windows or seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.reproductions.replaying import outcomes, trace_of
from replay.engines.simulated import Simulated
from replay.latency_models.roofline import Roofline
from replay.simulation.hardware import gpu_preset, kv_blocks, model_preset
from replay.simulation.setup import Limits
from toolkit.traces import TraceInfo, read_trace

GPU, MODEL = "h100", "llama-3.1-8b"
MEMORY = {"rich": 1.0, "tight": 0.15}  # share of the KV blocks that the weights leave
LOADS = (0.7, 0.9, 1.0, 1.1)
REAL = {
    "Azure 2023 conversation": "azure_llm_2023/AzureLLMInferenceTrace_conv.csv",
    "Azure 2023 code": "azure_llm_2023/AzureLLMInferenceTrace_code.csv",
}
GENERATED = {"generated, output CV 0.5": 0.5, "generated, output CV 1.5": 1.5, "generated, output CV 4": 4.0}
MEAN_PROMPT, MEAN_OUTPUT, LONGEST_OUTPUT = 1000.0, 250.0, 4_096
POLICIES = {
    "fcfs": "fcfs",
    "sjf, σ 0.5": "sjf:predictor=noisy,sigma=0.5",
    "srpt, σ 0.5": "srpt:predictor=noisy,sigma=0.5",
    "trail, σ 0.5": "trail:predictor=noisy,sigma=0.5",
    "ltr, σ 0.5": "ltr:predictor=noisy,sigma=0.5",
    "mlfq": "mlfq",
    "las": "las:quantum=64",
    "gittins": "gittins",
    "gittins-boost": "gittins-boost",
    "distboost": "distboost",
    "uniboost, memguard": "uniboost:phase=memguard",
    "sjf, oracle": "sjf",
    "srpt, oracle": "srpt",
}
ORACLES = ("sjf, oracle", "srpt, oracle")
ERRORS = {
    "exact": "predictor=oracle",
    "σ 0.25": "predictor=noisy,sigma=0.25",
    "σ 0.5": "predictor=noisy,sigma=0.5",
    "σ 1": "predictor=noisy,sigma=1",
    "σ 2": "predictor=noisy,sigma=2",
    "class mean": "predictor=class-mean",
    "adversarial": "predictor=adversarial",
}
PREDICTION_FREE = ("fcfs", "mlfq", "las", "gittins", "gittins-boost", "distboost", "uniboost, memguard")
ERROR_LOADS = (0.9, 1.1)


@dataclass(frozen=True)
class Cell:
    """One traffic on one engine at one load, for one window or seed."""

    traffic: str
    memory: str
    load: float
    seed: int
    requests: int
    traces: str
    errors: bool = False  # predictors of every error, beside the policies that need none

    @property
    def policies(self) -> dict[str, str]:
        """What is replayed: specs by their names in the tables."""
        if not self.errors:
            return POLICIES
        free = {name: POLICIES[name] for name in PREDICTION_FREE}
        return free | {f"{p}, {name}": f"{p}:{error}" for p in ("sjf", "srpt") for name, error in ERRORS.items()}


@cache
def engine_of(memory: str) -> Simulated:
    """One H100 with Llama-3.1-8B: continuous batching, decodes first, preempted requests computed again."""
    blocks = kv_blocks(gpu_preset(GPU), model_preset(MODEL), 16)
    limits = Limits(kv_blocks=int(blocks * MEMORY[memory]), max_model_len=131_072, prefix_caching=False)
    return Simulated(Roofline(gpu=GPU, model=MODEL), limits, closed=False, band=False)


def rows_of(cell: Cell) -> pl.DataFrame:
    """The requests at a load that nobody has chosen yet: a window of a real trace, or generated ones."""
    if cell.traffic in GENERATED:
        return _generated(GENERATED[cell.traffic], cell.requests, cell.seed)
    frame = _real(str(Path(cell.traces) / REAL[cell.traffic]))
    size = min(cell.requests, len(frame) // 5)
    start = (len(frame) - size) // 4 * (cell.seed % 5)
    window = frame[start : start + size]
    return window.with_columns(pl.col("arrival_s") - window["arrival_s"][0])


@cache
def _real(path: str) -> pl.DataFrame:
    return read_trace([Path(path)]).frame.select("arrival_s", "prompt_tokens", "output_tokens").collect()


def _generated(cv: float, requests: int, seed: int) -> pl.DataFrame:
    """Poisson arrivals, lognormal lengths: prompts of CV 1, outputs of CV `cv` with the same mean."""
    rng = np.random.default_rng([seed, round(10 * cv)])
    return pl.DataFrame(
        {
            "arrival_s": np.cumsum(rng.exponential(1.0, requests)),
            "prompt_tokens": _lognormal(rng, MEAN_PROMPT, 1.0, requests, 32_768),
            "output_tokens": _lognormal(rng, MEAN_OUTPUT, cv, requests, LONGEST_OUTPUT),
        }
    )


def _lognormal(rng: np.random.Generator, mean: float, cv: float, count: int, most: int) -> Any:
    sigma = np.sqrt(np.log1p(cv**2))
    return np.clip(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count), 1, most).astype(np.int64)


def at_load(rows: pl.DataFrame, load: float, memory: str, name: str) -> tuple[pl.DataFrame, TraceInfo]:
    """The same requests at a load ρ: the engine's own measure (offered all at once, over the span)."""
    trace, info = trace_of(rows, name)
    _, summary = outcomes(trace, info, "fcfs", engine_of(memory))
    stretch = float(summary["utilisation"]) / load
    return trace_of(rows.with_columns(pl.col("arrival_s") * stretch), name)


def run(cell: Cell) -> list[dict[str, Any]]:
    """One row of figures for each policy."""
    trace, info = at_load(rows_of(cell), cell.load, cell.memory, cell.traffic)
    found = []
    for policy, spec in cell.policies.items():
        ended, summary = outcomes(trace, info, spec, engine_of(cell.memory))
        e2e_s = (ended["finish_s"] - ended["arrival_s"]).to_numpy()
        ttft_s = (ended["first_token_s"] - ended["arrival_s"]).to_numpy()
        found.append(
            {
                "traffic": cell.traffic,
                "memory": cell.memory,
                "load": cell.load,
                "seed": cell.seed,
                "policy": policy,
                "requests": len(ended),
                "utilisation": summary["utilisation"],
                "preemptions": summary["preemptions"],
                "e2e_mean": float(e2e_s.mean()),
                "e2e_p99": float(np.quantile(e2e_s, 0.99)),
                "ttft_p99": float(np.quantile(ttft_s, 0.99)),
            }
        )
    return found


def cells(traces: Path | None, seeds: int, requests: int) -> list[Cell]:
    """Every cell; the real traces' only where their folder is."""
    traffics = [name for name, file in REAL.items() if traces is not None and (traces / file).is_file()]
    return [
        Cell(traffic, memory, load, seed, requests * (2 if traffic in GENERATED else 1), str(traces))
        for traffic in [*traffics, *GENERATED]
        for memory in MEMORY
        for load in LOADS
        for seed in range(seeds)
    ]


def error_cells(every: Sequence[Cell]) -> list[Cell]:
    """The cells in which predictions of every error are tried."""
    return [
        replace(cell, load=load, errors=True)
        for cell in every
        for load in ERROR_LOADS
        if cell.load == LOADS[0] and "CV 0.5" not in cell.traffic
    ]
