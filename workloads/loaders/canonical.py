"""The canonical Parquet that `trace convert` writes: what was known about the source is in the footer."""

from pathlib import Path

import orjson
import polars as pl
import pyarrow.parquet as parquet
from pyarrow import ArrowInvalid

from toolkit.errors import InputFailure
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
        return Scan(pl.scan_parquet(paths, glob=False), "s", "canonical", restored=restored)


def _restored(path: Path) -> TraceInfo | None:
    """The footer's TraceInfo, where there is one and it fits the rows that are there."""
    try:
        file = parquet.ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise InputFailure(f"cannot be read ({error})", where=str(path)) from error
    entry = (file.metadata.metadata or {}).get(FOOTER_KEY.encode())
    if entry is None or tuple(file.schema_arrow.names) != tuple(TRACE):
        return None
    info = TraceInfo.from_dict(orjson.loads(entry))
    return info if info.rows_kept == file.metadata.num_rows else None
