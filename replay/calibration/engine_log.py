"""The log of a real vLLM run: what was asked, what was measured, with which limits (see `trace calibrate --check`).

vllm/requests.jsonl   a line a request: input_toks, output_toks, arrival_time (the client's clock), queued_ts,
scheduled_ts, first_token_ts, last_token_ts (the engine's clock), seconds
vllm/meta.json        engine arguments, limits, KV blocks
config.json           memory, link, instances
profile/              the layer profile of the same hardware
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from replay.latency_models.profile import CAPTURED, Profile
from replay.latency_models.profile_tables import find_profile, read_meta
from replay.simulation.hardware import ACTIVATION_BYTES, ServedModel, model_by_name, model_preset
from replay.simulation.setup import Limits
from toolkit.errors import InputFailure

# vLLM 0.19, where a log does not tell.
DEFAULTS = {"max_num_seqs": 256, "max_num_batched_tokens": 2048, "block_size": 16, "gpu_memory_utilization": 0.9}
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float8": "fp8"}
STAMPS = ("queued_ts", "first_token_ts", "last_token_ts")


@dataclass(frozen=True)
class EngineLog:
    """A real run, ready to be replayed."""

    requests: pl.DataFrame  # arrival_s, prompt_tokens, output_tokens and the measured first_token_s, finish_s
    limits: Limits
    latency: Profile
    notes: tuple[str, ...]  # what was not in the log and was taken as default or derived


def read_log(folder: Path, preset: str | None = None) -> EngineLog:
    """Read the log in `folder`, of the model it names or of `preset`; InputFailure names the file that is wrong."""
    meta = _json(folder / "vllm" / "meta.json")
    arguments, resolved = meta.get("engine_kwargs", {}), meta.get("resolved_config") or {}
    machine = _first_instance(_json(folder / "config.json", optional=True))
    ranks = int(arguments.get("data_parallel_size") or 1)
    degree = int(arguments.get("tensor_parallel_size") or 1)
    dtype = DTYPES.get(str(arguments.get("dtype")), "bf16")
    path = find_profile(folder / "profile", degree, dtype)
    model = model_preset(preset) if preset else model_by_name(str(meta.get("model") or read_meta(path).get("model")))
    notes: list[str] = []
    scheduler = resolved.get("scheduler_config") or {}

    def setting(name: str, *places: dict[str, Any]) -> Any:
        for place in (arguments, *places):
            if place.get(name) is not None:
                return place[name]
        notes.append(f"{name} is not in the log: vLLM's default, {DEFAULTS[name]}")
        return DEFAULTS[name]

    cache = {**(resolved.get("cache_config") or {}), **(meta.get("kv_cache") or {})}
    block_tokens = int(cache.get("block_size") or DEFAULTS["block_size"])
    blocks = cache.get("num_gpu_blocks")
    if blocks is None:
        blocks = _derived_blocks(machine, model, block_tokens, degree, ranks, notes)
    together = ranks if model.num_experts else 1  # ranks of a dense model step by themselves
    limits = Limits(
        kv_blocks=int(blocks),
        block_tokens=block_tokens,
        max_num_seqs=int(setting("max_num_seqs", scheduler)),
        max_num_batched_tokens=int(setting("max_num_batched_tokens", scheduler)),
        max_model_len=int(arguments.get("max_model_len") or model.max_position_embeddings),
        prefix_caching=bool(cache.get("enable_prefix_caching", True)),
        instances=ranks,
        routing="vllm-dp" if together > 1 else "round-robin",
        async_scheduling=bool(scheduler.get("async_scheduling", True)),
        lockstep=together > 1,
    )
    latency = Profile(
        str(path),
        model=preset,
        tensor_parallel=degree,
        ranks=together,
        captured=_captured(resolved, limits),
        link_gb_per_s=machine["link_bw"],
        link_us=machine["link_latency"] / 1e3,
    )
    return EngineLog(_requests(folder / "vllm" / "requests.jsonl"), limits, latency, tuple(notes))


def _requests(path: Path) -> pl.DataFrame:
    """Requests by arrival. The clocks' offset is the smallest lag from the client's arrival to the engine's queue."""
    if not path.is_file():
        raise InputFailure("is missing", where=str(path))
    frame = pl.read_ndjson(path.read_bytes())
    lacking = {"input_toks", "output_toks", "arrival_time", *STAMPS} - set(frame.columns)
    if lacking:
        raise InputFailure(f"has no {', '.join(sorted(lacking))}", where=str(path))
    offset = (pl.col("queued_ts") - pl.col("arrival_time")).min() + pl.col("arrival_time").min()
    return frame.sort("arrival_time").select(
        request_id=pl.int_range(pl.len(), dtype=pl.Int64),
        arrival_s=pl.col("arrival_time") - pl.col("arrival_time").min(),
        prompt_tokens=pl.col("input_toks").cast(pl.Int32),
        output_tokens=pl.col("output_toks").cast(pl.Int32),
        first_token_s=pl.col("first_token_ts") - offset,
        finish_s=pl.col("last_token_ts") - offset,
    )


def _derived_blocks(
    machine: dict[str, float], model: ServedModel, block_tokens: int, degree: int, ranks: int, notes: list[str]
) -> int:
    """KV blocks from memory, the share vLLM may use, weights and activations, as the engine would have found them."""
    usable = machine["mem_size"] * 2**30 * machine["mem_util"] - ACTIVATION_BYTES
    left = usable - model.weight_bytes_per_gpu(degree, ranks)
    blocks = int(left // (model.kv_bytes_per_gpu(degree) * block_tokens))
    if blocks < 1:
        raise InputFailure("tells no KV block count, and none is left beside the weights", where="config.json")
    notes.append(
        f"KV blocks are not in the log: {blocks:,} derived from {machine['mem_size']:g} GiB, mem_util "
        f"{machine['mem_util']:g}, weights and {ACTIVATION_BYTES / 2**30:g} GiB of activations"
    )
    return blocks


def _captured(resolved: dict[str, Any], limits: Limits) -> int:
    """The largest batch with a CUDA graph: as logged, or vLLM's default of twice max_num_seqs up to 512."""
    compilation = resolved.get("compilation_config") or {}
    sizes = compilation.get("cudagraph_capture_sizes")
    if sizes is not None:
        return max(sizes, default=0)
    most = min(2 * limits.max_num_seqs, 512)
    return int(max(np.array(CAPTURED)[np.array(CAPTURED) <= most]))


def _first_instance(config: dict[str, Any]) -> dict[str, float]:
    """Memory and link of one GPU: GiB, share, GB/s, ns."""
    instance = (config.get("nodes") or [{}])[0].get("instances") or [{}]
    memory = instance[0].get("npu_mem", {})
    found = {
        "mem_size": memory.get("mem_size", 0.0),
        "mem_util": memory.get("mem_util", DEFAULTS["gpu_memory_utilization"]),
        "link_bw": config.get("link_bw", 16.0),
        "link_latency": config.get("link_latency", 20_000.0),
    }
    return {name: float(value) for name, value in found.items()}


def _json(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        loaded: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputFailure(f"cannot be read: {error}", where=str(path)) from error
    return loaded
