"""The traffic of UniBoost's reproduction: its two mixes, and the Azure 2023 traces with their bursts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.reproductions.replaying import trace_of
from toolkit.protocols import ServiceCosts
from toolkit.traces import TraceInfo, read_trace

BLOCK_S = 120.0  # of the Azure traces: bursts shorter than that are kept as they are


@dataclass(frozen=True)
class Lengths:
    """Lognormal tokens between two ends, prompt and output drawn apart."""

    prompt_median: float
    prompt_sigma: float
    prompt_ends: tuple[int, int]
    output_median: float
    output_sigma: float
    output_ends: tuple[int, int]
    source: str

    def draw(self, count: int, rng: np.random.Generator) -> pl.DataFrame:
        """`count` requests' token counts."""
        prompt = rng.lognormal(np.log(self.prompt_median), self.prompt_sigma, count)
        output = rng.lognormal(np.log(self.output_median), self.output_sigma, count)
        tokens = {"prompt_tokens": prompt.clip(*self.prompt_ends), "output_tokens": output.clip(*self.output_ends)}
        return pl.DataFrame(tokens).cast(pl.Int32)


REASONING = Lengths(150, 0.7, (16, 2_000), 4_000, 0.6, (256, 16_000), "like s1k: inferred, no length is published")
CHAT = Lengths(1_020, 0.95, (16, 8_000), 129, 0.85, (4, 1_000), "medians and spread of the Azure conversation trace")
MIXES = {"mix-1": 0.2, "mix-2": 0.7}  # the share of reasoning
AZURE = {
    "azure-conversation": "azure_llm_2023/AzureLLMInferenceTrace_conv.csv",
    "azure-code": "azure_llm_2023/AzureLLMInferenceTrace_code.csv",
}


def rows(workload: str, count: int, seed: int, traces: Path) -> pl.DataFrame:
    """Arrivals and token counts of `count` requests; arrivals are to be scaled to a load."""
    rng = np.random.default_rng([seed, *workload.encode()])
    return _mixed(MIXES[workload], count, rng) if workload in MIXES else _blocks(traces / AZURE[workload], count, rng)


def known(traces: Path) -> list[str]:
    """The workloads that can be had."""
    return [*MIXES, *(name for name, path in AZURE.items() if (traces / path).is_file())]


def _mixed(share: float, count: int, rng: np.random.Generator) -> pl.DataFrame:
    long = pl.Series(rng.random(count) < share)
    reasoning, chat = REASONING.draw(count, rng), CHAT.draw(count, rng)
    tokens = {name: reasoning[name].zip_with(long, chat[name]) for name in reasoning.columns}
    kind = pl.select(pl.when(long).then(pl.lit("reasoning")).otherwise(pl.lit("chat"))).to_series()
    return pl.DataFrame({"arrival_s": _poisson(count, rng), **tokens, "kind": kind})


def _poisson(count: int, rng: np.random.Generator) -> pl.Series:
    arrival = np.cumsum(rng.exponential(1.0, count))
    return pl.Series(arrival - arrival[0])


def _blocks(path: Path, count: int, rng: np.random.Generator) -> pl.DataFrame:
    """Blocks of the trace drawn with replacement, one after the other, until there are `count` requests."""
    trace = read_trace([path]).frame.select("arrival_s", "prompt_tokens", "output_tokens").collect()
    block = pl.col("arrival_s").floordiv(BLOCK_S)
    parts = trace.with_columns(block=block, arrival_s=pl.col("arrival_s") % BLOCK_S).partition_by("block")
    found: list[pl.DataFrame] = []
    while sum(map(len, found)) < count:
        drawn = parts[rng.integers(len(parts))].drop("block")
        found.append(drawn.with_columns(pl.col("arrival_s") + BLOCK_S * len(found)))
    return pl.concat(found).sort("arrival_s", maintain_order=True).head(count)


def at_load(found: pl.DataFrame, rho: float, costs: ServiceCosts, name: str) -> tuple[pl.DataFrame, TraceInfo]:
    """The requests as a trace whose span is the service they need over `rho`."""
    work = costs.prefill_s_per_token * pl.col("prompt_tokens") + costs.decode_s_per_token * pl.col("output_tokens")
    work_s = found.select(work.sum()).item()
    first, last = found["arrival_s"][0], found["arrival_s"][-1]
    scaled = (pl.col("arrival_s") - first) * (work_s / rho / (last - first))
    return trace_of(found.with_columns(scaled), name)
