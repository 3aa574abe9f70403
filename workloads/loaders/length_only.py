"""Tables of request lengths in Vidur's columns, with or without arrival times."""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.tables import Table, refuse_mapping, resemblance

FIELDS = {"num_prefill_tokens": pl.Int64(), "num_decode_tokens": pl.Int64()}
TIME = "arrived_at"


class Vidur:
    """Vidur's requests (arrived_at in seconds, num_prefill_tokens, num_decode_tokens)."""

    def sniff(self, head: bytes, name: str) -> float:
        return resemblance(head, (TIME, *FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        refuse_mapping(options)
        table = Table(paths, {TIME: pl.Float64(), **FIELDS})
        return table.scan(_timed, time_unit="s", time_unit_reason="Vidur's arrived_at is in seconds")


class LengthOnly:
    """Request lengths without times (num_prefill_tokens, num_decode_tokens); arrival_s is null."""

    def sniff(self, head: bytes, name: str) -> float:
        return 0.9 * resemblance(head, tuple(FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        refuse_mapping(options)
        return Table(paths, FIELDS).scan(
            _build,
            time_unit=None,
            time_unit_reason="the source has no times",
            notes=("The source has lengths only: arrival_s is null, and a replay needs arrivals.",),
        )


LENGTHS = {"prompt_tokens": pl.col("num_prefill_tokens"), "output_tokens": pl.col("num_decode_tokens")}


def _build(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("drop_reason", **LENGTHS)


def _timed(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select("drop_reason", arrival=TIME, **LENGTHS)
