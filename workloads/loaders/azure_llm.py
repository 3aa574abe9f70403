"""Azure LLM inference traces: the two hours of 2023 and the week of 2024."""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.tables import Table, refuse_mapping, resemblance

FIELDS = {"TIMESTAMP": pl.Datetime("ns"), "ContextTokens": pl.Int64(), "GeneratedTokens": pl.Int64()}


class AzureLLM:
    """Azure LLM inference traces 2023 and 2024 (TIMESTAMP, ContextTokens, GeneratedTokens)."""

    def sniff(self, head: bytes, name: str) -> float:
        return resemblance(head, tuple(FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        refuse_mapping(options)
        return Table(paths, FIELDS).scan(_build, time_unit="datetime", time_unit_reason="TIMESTAMP is a date and time")


def _build(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select(
        "drop_reason", arrival="TIMESTAMP", prompt_tokens="ContextTokens", output_tokens="GeneratedTokens"
    )
