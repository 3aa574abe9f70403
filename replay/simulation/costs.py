"""What service takes of an engine, from its latency model and its limits: see protocols.ServiceCosts."""

import numpy as np
import polars as pl

from replay.simulation.latency import Latency
from replay.simulation.setup import Limits
from replay.simulation.state import PS
from toolkit.protocols import ServiceCosts


def service_costs(trace: pl.DataFrame, limits: Limits, latency: Latency) -> ServiceCosts:
    """The costs at full batches: a token budget of prefill by the mean prompt, and all decoding that fits."""
    prefill_s = _prefill_s(latency, min(limits.max_num_batched_tokens, max(1, round(_mean_prompt(trace)))), limits)
    context = _decoding_context(trace)
    sequences = int(np.clip(limits.kv_blocks * limits.block_tokens / context, 1, limits.max_num_seqs))
    step_s = _decode_s(latency, sequences, round(sequences * context))
    restore_s = 2 * limits.swap_s_per_token or prefill_s
    return ServiceCosts(prefill_s, step_s / sequences, step_s, restore_s)


def _mean_prompt(trace: pl.DataFrame) -> float:
    return float(trace["prompt_tokens"].mean() or 0.0)  # type: ignore[arg-type]


def _decoding_context(trace: pl.DataFrame) -> float:
    """The mean context of what decodes: a request is there as long as its output, and with half of that on average."""
    prompt, output = (trace[name].fill_null(0).cast(pl.Float64) for name in ("prompt_tokens", "output_tokens"))
    tokens = float(output.sum())
    return max(1.0, float((output * (prompt + output / 2)).sum()) / tokens) if tokens else 1.0


def _prefill_s(latency: Latency, chunk: int, limits: Limits) -> float:
    """Seconds a token in a full step of chunks of `chunk` tokens without context before them."""
    full = limits.max_num_batched_tokens
    attention = np.interp(chunk, latency.chunk_edges, latency.prefill[:, 0]) * full / chunk
    return float((latency.dense[full] + attention) / full / PS)


def _decode_s(latency: Latency, sequences: int, kv_tokens: int) -> float:
    """Seconds of a step in which `sequences` requests decode that read `kv_tokens` KV tokens together."""
    at = max(0, int(np.searchsorted(latency.kv_edges[sequences], kv_tokens, side="right")) - 1)
    attention = latency.kv_base[sequences, at] + latency.kv_slope[sequences, at] * kv_tokens
    return float((latency.dense[sequences] + latency.head[sequences] + attention) / PS)
