"""A layer profile, and the log of a real engine, that a test makes from known functions."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl

LAYERS = 16  # of llama-3.2-1b
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
CONTEXTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def layer_us(tokens: float) -> float:
    return 20.0 + 0.5 * tokens


def attention_us(chunk: float, prior: float, sequences: float, context: float) -> float:
    """Affine in each axis, so that linear interpolation is exact; a mixed batch costs more than its parts."""
    both = 7.0 if chunk and sequences else 0.0
    return 0.01 * chunk + 0.002 * prior * (chunk > 0) + 0.001 * sequences * context + both


def write_profile(folder: Path, attention: Callable[..., float] = attention_us, skew: str = "") -> Path:
    """A profile of llama-3.2-1b below `folder`; returns the folder of its meta.yaml."""
    tables = folder / "bf16" / "tp1"
    tables.mkdir(parents=True)
    (folder / "bf16" / "meta.yaml").write_text(f"model: meta-llama/Llama-3.2-1B\n{skew}")
    dense = [("qkv_proj", t, layer_us(t) / 2) for t in TOKENS] + [("layernorm", t, layer_us(t) / 4) for t in TOKENS]
    dense += [("embedding", t, 1.0 * t) for t in TOKENS]
    _write(tables / "dense.csv", dense, ("layer", "tokens", "time_us"))
    head = [("lm_head", n, 100.0 + n) for n in COUNTS] + [("sampler", n, 2.0 * n) for n in COUNTS]
    _write(tables / "per_sequence.csv", head, ("layer", "sequences", "time_us"))
    grid = [(c, p, 0, 0) for c in TOKENS for p in (0, *CONTEXTS)]
    grid += [(0, 0, n, k) for n in COUNTS for k in CONTEXTS]
    grid += [(c, p, n, k) for c in TOKENS[4:] for p in (0, *CONTEXTS) for n in COUNTS for k in CONTEXTS]
    columns = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
    _write(tables / "attention.csv", [(*at, attention(*at)) for at in grid], columns)
    return folder


def write_log(folder: Path, requests: list[dict[str, float]], **arguments: object) -> Path:
    """The log of a run of that model in `folder`, beside its profile."""
    (folder / "vllm").mkdir(parents=True)
    given = {"max_num_seqs": 32, "max_num_batched_tokens": 2048, "max_model_len": 4096, **arguments}
    meta = {"model": "meta-llama/Llama-3.2-1B", "engine_kwargs": given, "kv_cache": {"num_gpu_blocks": 4096}}
    (folder / "vllm" / "meta.json").write_text(json.dumps(meta))
    (folder / "vllm" / "requests.jsonl").write_text("\n".join(json.dumps(r) for r in requests))
    return folder


def _write(path: Path, rows: list[tuple[object, ...]], columns: tuple[str, ...]) -> None:
    pl.DataFrame(rows, schema=list(columns), orient="row", infer_schema_length=None).write_csv(path)
