"""The canonical Parquet that `trace convert` writes: what was known about the source is in the footer."""

from pathlib import Path

import orjson
import polars as pl

from toolkit.errors import InputFailure, SettingFailure
from toolkit.protocols import LoadOptions, Scan
from toolkit.schema import TRACE
from toolkit.traces import FOOTER_KEY, TraceInfo
from workloads.loaders.columns import PARQUET, Columns


class Canonical:
    """Canonical Parquet (as `trace convert` writes it), with what is known about its source."""

    def sniff(self, head: bytes, name: str) -> float:
        return 0.5 if head.startswith(PARQUET) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        restored = None if options.columns or len(paths) > 1 else _restored(paths[0])
        if restored is None:
            return Columns().scan(paths, options)
        if options.time_unit not in (None, "s"):
            raise SettingFailure("a canonical trace is in seconds", where="--time-unit", hint="leave it out")
        return Scan(pl.scan_parquet(paths, glob=False), "s", "canonical", restored=restored)


def _restored(path: Path) -> TraceInfo | None:
    """The footer's TraceInfo, where there is one and it fits the rows that are there."""
    try:
        entry, columns = pl.read_parquet_metadata(path).get(FOOTER_KEY), pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputFailure(f"cannot be read ({error})", where=str(path)) from error
    if entry is None or tuple(columns) != tuple(TRACE):
        return None
    info = TraceInfo.from_dict(orjson.loads(entry))
    return info if info.rows_kept == _rows(path) else None


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
