"""BurstGPT: four months of campus traffic to two OpenAI models, in seconds.

The third release inserts `Session ID` and `Elapsed time`, so columns are read by name. A failure has no response
tokens. Total tokens are the sum of the other two and are not read.
"""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.tables import Table, read_header, refuse_mapping, resemblance

FIELDS = {
    "Timestamp": pl.Float64(),
    "Model": pl.String(),
    "Request tokens": pl.Int64(),
    "Response tokens": pl.Int64(),
    "Log Type": pl.String(),
}
SINCE_V3 = {"Session ID": pl.String(), "Elapsed time": pl.Float64()}


class BurstGPT:
    """BurstGPT, all releases (Timestamp, Model, Request tokens, Response tokens, Log Type …)."""

    def sniff(self, head: bytes, name: str) -> float:
        return resemblance(head, tuple(FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        refuse_mapping(options)
        measured = any("Elapsed time" in read_header(path) for path in paths)
        table = Table(paths, FIELDS, SINCE_V3 if measured else None)
        return table.scan(
            _measured if measured else _build,
            time_unit="s",
            time_unit_reason="BurstGPT's Timestamp is in seconds",
            engine="OpenAI API",
            notes=("A request without response tokens counts as failed.",),
        )


def _build(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("drop_reason", **_request())


def _measured(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The third release: sessions, and the time until the last token."""
    finish = pl.col("Timestamp") + pl.col("Elapsed time")
    return frame.select("drop_reason", **_request(), session_id=pl.col("Session ID"), finish=finish)


def _request() -> dict[str, pl.Expr]:
    failed = pl.col("Response tokens") == 0
    return {
        "arrival": pl.col("Timestamp"),
        "model": pl.col("Model"),
        "kind": pl.col("Log Type"),
        "prompt_tokens": pl.col("Request tokens"),
        "output_tokens": pl.col("Response tokens"),
        "row_hash": pl.struct(*FIELDS).hash(),
        "source_status": pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")),
    }
