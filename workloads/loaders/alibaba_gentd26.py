"""Alibaba GenTD26: 23 days of image generation with base models and LoRA adapters, the stamps in whole seconds."""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.tables import Table, read_header, refuse_mapping, resemblance

FIELDS = {
    "gmt_create": pl.Datetime("ns"),
    "predict_type": pl.String(),
    "predict_status": pl.String(),
    "exec_time_seconds": pl.Float64(),
    "groupId": pl.String(),
    "prompt_length": pl.Float64(),
    "checkpoint_model_version_id": pl.String(),
}


class AlibabaGenTD26:
    """Alibaba GenTD26 image generation (lora_request_trace.csv); prompt lengths are characters."""

    def sniff(self, head: bytes, name: str) -> float:
        return resemblance(head, tuple(FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        refuse_mapping(options)
        others = {n: pl.String() for path in paths for n in read_header(path) if n not in FIELDS}
        return Table(paths, FIELDS, others).scan(
            _build,
            time_unit="datetime",
            time_unit_reason="gmt_create is a date and time",
            token_unit="characters",
            notes=(
                "Images have no output tokens: output_tokens is null, and source_e2e_s is the execution time alone.",
            ),
        )


def _build(frame: pl.LazyFrame) -> pl.LazyFrame:
    source = [n for n in frame.collect_schema().names() if n != "drop_reason"]
    return frame.select(
        "drop_reason",
        arrival="gmt_create",
        kind="predict_type",
        source_status="predict_status",
        source_e2e_s="exec_time_seconds",
        tenant="groupId",
        prompt_tokens=pl.col("prompt_length").cast(pl.Int64),
        model="checkpoint_model_version_id",
        row_hash=pl.struct(source).hash(),
    )
