"""Per-request logs of a vLLM engine: two clocks, brought together here."""

from pathlib import Path

import orjson
import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NAME, TIME, TOKENS, optional
from workloads.outline import outline
from workloads.records import check, dig, line_frame

FIELDS = {
    "request_id": NAME,
    "input_toks": TOKENS,
    "output_toks": TOKENS,
    "arrival_time": TIME,
    "queued_ts": optional(TIME),
    "scheduled_ts": optional(TIME),
    "first_token_ts": optional(TIME),
    "last_token_ts": optional(TIME),
}
CLOCKS = (
    "arrival_time is the client's clock and the engine's times are its own monotonic clock: they are aligned by the "
    "smallest queued_ts - arrival_time, so the quickest way into the queue counts as 0 s"
)
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "tensor_parallel_size", "data_parallel_size")


class VllmLog:
    """vLLM engine log JSONL: arrival, queued, scheduled, first and last token of each request, measured."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if {"input_toks", "output_toks", "arrival_time", "queued_ts"} <= outline(head) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        about = [_meta(path) for path in paths]
        frames = [_requests(line_frame([p], FIELDS), meta.get("model")) for p, meta in zip(paths, about, strict=True)]
        return Scan(
            frame=pl.concat(frames),
            time_unit="s",
            time_unit_reason="the format's times are seconds",
            notes=(CLOCKS, *_notes(about)),
            engine=f"vllm {about[0]['vllm_version']}" if "vllm_version" in about[0] else "vllm",
        )


def _requests(frame: pl.LazyFrame, model: object) -> pl.LazyFrame:
    offset = (pl.col("queued_ts") - pl.col("arrival_time")).min()
    finished = pl.col("last_token_ts").is_not_null()
    name = model if isinstance(model, str) else None
    return frame.select(
        arrival="arrival_time",
        model=pl.lit(name, pl.String),
        source_id="request_id",
        prompt_tokens="input_toks",
        output_tokens="output_toks",
        sent="arrival_time",
        start=pl.col("scheduled_ts") - offset,
        first_token=pl.col("first_token_ts") - offset,
        finish=pl.col("last_token_ts") - offset,
        source_status=pl.when(finished).then(pl.lit("ok")).otherwise(pl.lit("unfinished")),
        drop_reason="drop_reason",
    )


def _meta(log: Path) -> dict[str, object]:
    """What meta.json beside the log says of the engine; empty where there is none."""
    try:
        meta = orjson.loads((log.parent / "meta.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _notes(about: list[dict[str, object]]) -> list[str]:
    limits = [{k: dig(meta, "engine_kwargs", k) for k in LIMITS} for meta in about]
    blocks = [{k: dig(meta, "kv_cache", k) for k in ("num_gpu_blocks", "block_size")} for meta in about]
    said = [{k: v for k, v in {**a, **b}.items() if v is not None} for a, b in zip(limits, blocks, strict=True)]
    return ["engine limits: " + ", ".join(f"{k}={v}" for k, v in found.items()) for found in said if found]
