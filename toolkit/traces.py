"""A trace in memory or on disk: the TRACE table with what is known about where it came from."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from toolkit import plugins
from toolkit.errors import InputFailure

FOOTER_KEY = "trace_toolkit"
NAMES = ("model", "tenant", "tier", "kind")  # stored as categories: who groups by them reads numbers
LISTS_A_ROW_GROUP = 8_192  # prefix blocks can be thousands a row, and a row group is held in memory


@dataclass(frozen=True)
class TraceInfo:
    """Where a trace came from and what reading it found. `rows_read == rows_kept + sum(dropped.values())`."""

    name: str
    format: str
    sha256: str  # of the source's bytes, file by file in reading order
    rows_read: int
    rows_kept: int
    dropped: dict[str, int] = field(default_factory=dict)  # rows by reason
    span_s: float | None = None  # first to last arrival
    time_unit: str | None = None  # s, ms, us, ns or datetime; null where the source has no times
    time_unit_reason: str | None = None
    clock_step_s: float | None = None  # the smallest step the source's clock can tell apart; null when none shows
    sorted: bool = True  # whether the source was in arrival order
    duplicates: int | None = None  # rows equal to an earlier row in every column; kept; null when not counted
    epoch: str | None = None  # ISO 8601 of arrival_s = 0 where the source tells
    block_tokens: int | None = None  # tokens in one prefix block
    block_scope: str | None = None  # global or session: within what equal block hashes mean equal text; null: no blocks
    token_unit: str = "tokens"  # what prompt_tokens counts in this source (tokens, characters, words)
    notes: tuple[str, ...] = ()  # whatever a reader of the numbers should know, one sentence each

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TraceInfo":
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in values.items() if k in known}
        return cls(**{**kept, "notes": tuple(kept.get("notes", ()))})


@dataclass(frozen=True)
class Trace:
    """`frame` has TRACE's columns, sorted by request_id. `outcomes` is OUTCOMES where the source measured latencies.

    `numbered` has the same rows, with NAMES as categories, where the trace lies in a canonical file.
    """

    frame: pl.LazyFrame
    info: TraceInfo
    outcomes: pl.LazyFrame | None = None
    numbered: pl.LazyFrame | None = None


def read_trace(
    paths: list[str | Path],
    *,
    format: str | None = None,
    columns: dict[str, str] | None = None,
    time_unit: str | None = None,
) -> Trace:
    """Read files, globs or folders of one format into a Trace.

    `format` overrides detection from content, `columns` maps canonical column -> source column, and `time_unit` is
    one of s, ms, us, ns, datetime. The reader itself lives in `workloads` and is found through the plugin table.
    """
    reader = plugins.load("reader", "trace")
    result: Trace = reader([str(p) for p in paths], format=format, columns=columns or {}, time_unit=time_unit)
    return result


def footer(info: TraceInfo) -> dict[str, str]:
    """The Parquet footer entry that carries `info`."""
    return {FOOTER_KEY: orjson.dumps(info.to_dict()).decode()}


def scan_canonical(path: Path, info: TraceInfo) -> Trace:
    """The trace in a canonical Parquet file, of which this is known."""
    stored, categories = pl.scan_parquet(path, glob=False), pl.col(pl.Categorical)
    numbered = stored.with_columns(categories.exclude(NAMES).cast(pl.String))  # where another tool made more of them
    return Trace(stored.with_columns(categories.cast(pl.String)), info, numbered=numbered)


def write_trace(trace: Trace, path: Path) -> None:
    """Stream `trace` to canonical Parquet with its info in the footer; the file appears whole or not at all."""
    part = path.with_name(path.name + ".partial")
    rows = LISTS_A_ROW_GROUP if trace.info.block_tokens else None
    try:
        named = trace.frame if trace.numbered is None else trace.numbered
        named.with_columns(pl.col(NAMES).cast(pl.Categorical)).sink_parquet(
            part,
            metadata=footer(trace.info),
            compression="zstd",
            compression_level=1,
            row_group_size=rows,
            engine="streaming",
        )
        part.replace(path)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise InputFailure(what, where=str(path), hint="choose another path") from error
    finally:
        part.unlink(missing_ok=True)
