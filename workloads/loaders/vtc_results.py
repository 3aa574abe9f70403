"""Results of the VTC artifact: latencies measured per request, two tenants on one GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NUMBER, TEXT, TIME, TOKENS, Row
from workloads.outline import outline
from workloads.records import as_object, check, document_frame, need, need_list

FIELDS = {
    "adapter_dir": TEXT,
    "prompt_len": TOKENS,
    "output_len": TOKENS,
    "request_latency": NUMBER,
    "first_token_latency": NUMBER,
    "req_time": TIME,
}


class VTCResults:
    """VTC results JSONL: one experiment a line, with each request's tenant, lengths and measured latencies."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if {"config.num_adapters", "result.responses"} <= outline(head) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        return Scan(
            frame=_requests(document_frame(paths, FIELDS, _responses)),
            time_unit="s",
            time_unit_reason="the format's times are seconds",
            engine="S-LoRA (VTC artifact)",
        )


def _requests(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select(
        arrival="req_time",
        tenant="adapter_dir",
        prompt_tokens="prompt_len",
        output_tokens="output_len",
        sent="req_time",
        first_token=pl.col("req_time") + pl.col("first_token_latency"),
        finish=pl.col("req_time") + pl.col("request_latency"),
        source_status=pl.lit("ok"),
        drop_reason="drop_reason",
    )


def _responses(document: Any, where: str) -> Iterator[Row]:
    for response in need_list(need(document, "result", where), "responses", where):
        yield as_object(response, where)
