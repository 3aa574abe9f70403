"""The canonical Parquet that `trace convert` writes: what was known about the source is in the footer."""

from dataclasses import replace
from pathlib import Path

import orjson
import polars as pl

from toolkit.errors import InputFailure, SettingFailure
from toolkit.protocols import LoadOptions, Scan
from toolkit.schema import TRACE
from toolkit.traces import FOOTER_KEY, Trace, TraceInfo, scan_canonical
from workloads.loaders.columns import PARQUET, Columns

COUNTED = ("block_tokens", "block_scope", "token_unit")  # what a footer says that holds whatever rows are there


class Canonical:
    """Canonical Parquet (as `trace convert` writes it), with what is known about its source."""

    def sniff(self, head: bytes, name: str) -> float:
        return 0.5 if head.startswith(PARQUET) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        restored = None if options.columns or len(paths) > 1 else _restored(paths[0])
        if restored is None:
            return table(paths, options)
        if options.time_unit not in (None, "s"):
            raise SettingFailure("a canonical trace is in seconds", where="--time-unit", hint="leave it out")
        return Scan(restored.frame, "s", "canonical", restored=restored)


def table(paths: list[Path], options: LoadOptions) -> Scan:
    """Parts of a trace, or one with a mapping, as a table: how blocks and lengths are counted holds for all of it.

    Raises InputFailure where parts do not count alike.
    """
    scan = Columns().scan(paths, options)
    known = [trace.info for trace in map(_said, paths) if trace is not None]
    said = {tuple(getattr(info, name) for name in COUNTED) for info in known}
    if len(said) > 1:
        what = "it and the files beside it count prefix blocks or lengths in different units"
        raise InputFailure(what, where=str(paths[0]), hint="read them one by one")
    if not said:
        return scan
    scan = replace(scan, **dict(zip(COUNTED, said.pop(), strict=True)))
    without_blocks = len(known) == len(paths) and scan.block_scope is None
    return replace(scan, frame=scan.frame.drop("prefix_blocks", strict=False)) if without_blocks else scan


def _restored(path: Path) -> Trace | None:
    """The trace as its footer describes it, where it does and that fits the rows that are there."""
    trace = _said(path)
    return trace if trace is not None and trace.info.rows_kept == _rows(path) else None


def _said(path: Path) -> Trace | None:
    """The trace as its footer describes it, where it does and the columns are a trace's."""
    try:
        entry = pl.read_parquet_metadata(path).get(FOOTER_KEY)
        columns = pl.scan_parquet(path, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputFailure(f"cannot be read ({error})", where=str(path)) from error
    if entry is None or tuple(columns) != tuple(TRACE):
        return None
    try:
        return scan_canonical(path, TraceInfo.from_dict(orjson.loads(entry)))
    except (ValueError, TypeError) as error:
        what = f"what its footer says of the trace cannot be read ({error})"
        raise InputFailure(what, where=str(path), hint="the file is damaged; make or fetch it again") from error


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
