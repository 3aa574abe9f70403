"""The traces of the simulation benchmark: the Azure 2023 conversation trace, and generated ones with its lengths."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl

from toolkit.schema import TRACE, conform
from toolkit.traces import Trace, TraceInfo, read_trace, write_trace

CONVERSATION = "azure_llm_2023/AzureLLMInferenceTrace_conv.csv"
BLOCK_TOKENS = 512  # of Mooncake's format


def conversation(traces: Path) -> pl.DataFrame | None:
    """The Azure 2023 conversation trace from the folder of public traces; None where it is absent."""
    path = traces / CONVERSATION
    return read_trace([path]).frame.collect() if path.is_file() else None


def generated(count: int, per_s: float, lengths: pl.DataFrame | None, seed: int = 1) -> pl.DataFrame:
    """Poisson arrivals with lengths drawn in pairs from `lengths`, or from lognormals like them where it is absent."""
    rng = np.random.default_rng(seed)
    if lengths is None:
        prompt = np.clip(rng.lognormal(6.7, 0.9, count), 1, 8_192).astype(np.int64)
        output = np.clip(rng.lognormal(4.9, 0.9, count), 1, 1_000).astype(np.int64)
        drawn = pl.DataFrame({"prompt_tokens": prompt, "output_tokens": output})
    else:
        drawn = lengths.select("prompt_tokens", "output_tokens")[rng.integers(0, len(lengths), count)]
    arrival = np.cumsum(rng.exponential(1 / per_s, count))
    frame = drawn.with_columns(arrival_s=pl.Series(arrival - arrival[0])).with_row_index("request_id")
    return conform(frame, TRACE, source="generated")


def write_both(frame: pl.DataFrame, folder: Path, name: str) -> tuple[Path, Path]:
    """Write the trace as Parquet for `trace` and as Mooncake JSONL for its peers; returns both paths."""
    parquet, mooncake = folder / f"{name}.parquet", folder / f"{name}.jsonl"
    span_s = float(frame["arrival_s"][-1])
    write_trace(Trace(frame.lazy(), TraceInfo(name, "canonical", name, len(frame), len(frame), span_s=span_s)), parquet)
    blocks = 0
    with mooncake.open("wb") as file:
        for arrival_s, prompt, output in frame.select("arrival_s", "prompt_tokens", "output_tokens").iter_rows():
            own = list(range(blocks, blocks + -(-prompt // BLOCK_TOKENS)))
            blocks += len(own)
            row = {"timestamp": arrival_s * 1e3, "input_length": prompt, "output_length": output, "hash_ids": own}
            file.write(orjson.dumps(row) + b"\n")
    return parquet, mooncake
