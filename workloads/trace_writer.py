"""Writes a trace to canonical Parquet piece by piece, its info last."""

from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet

from toolkit.errors import InputFailure
from toolkit.schema import TRACE
from toolkit.traces import LISTS_A_ROW_GROUP, NAMES, TraceInfo, footer

# Columns whose values are all different: no dictionary helps them.
DISTINCT = {"request_id": "DELTA_BINARY_PACKED", "arrival_s": "BYTE_STREAM_SPLIT", "parent_id": "DELTA_BINARY_PACKED"}


class TraceWriter:
    """Appends frames to a Parquet file that appears under its name when it is finished, or not at all."""

    def __init__(self, target: Path, *, lists: bool = False):
        self.target, self.part = target, target.with_name(target.name + ".partial")
        self.group_rows = LISTS_A_ROW_GROUP if lists else None
        self.schema = _arrow(pl.DataFrame(schema=TRACE)).schema
        self.rows, self.first_s, self.last_s = 0, 0.0, 0.0

    def __enter__(self) -> "TraceWriter":
        try:
            self.writer = parquet.ParquetWriter(
                self.part, self.schema, compression="zstd", compression_level=1,
                use_dictionary=[name for name in TRACE if name not in DISTINCT], column_encoding=DISTINCT,
            )  # fmt: skip
        except OSError as error:
            raise _unwritable(self.target, error) from error
        return self

    def write(self, window: pl.DataFrame) -> None:
        """Append requests; columns that are missing are null."""
        if window.is_empty():
            return
        if self.rows == 0:
            self.first_s = window["arrival_s"][0]
        self.rows, self.last_s = self.rows + len(window), window["arrival_s"][-1]
        have = _arrow(window)
        columns = [
            have[field.name].cast(field.type) if field.name in window.columns else pa.nulls(len(window), field.type)
            for field in self.schema
        ]
        try:
            self.writer.write_table(pa.table(columns, schema=self.schema), row_group_size=self.group_rows)
        except OSError as error:
            raise _unwritable(self.target, error) from error

    def finish(self, info: TraceInfo) -> None:
        """Write the footer with `info` and give the file its name."""
        try:
            self.writer.add_key_value_metadata(footer(info))
            self.writer.close()
            self.part.replace(self.target)
        except OSError as error:
            raise _unwritable(self.target, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        self.part.unlink(missing_ok=True)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    """The frame with its NAMES as dictionaries."""
    names = [name for name in NAMES if name in frame.columns]
    return frame.with_columns(pl.col(names).cast(pl.Categorical)).to_arrow(compat_level=pl.CompatLevel.oldest())


def _unwritable(path: Path, error: OSError) -> InputFailure:
    return InputFailure(f"cannot be written ({error.strerror or error})", where=str(path), hint="choose another path")
