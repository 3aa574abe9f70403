"""Rows of a query as CSV, JSON, Parquet or a table to read, written while they arrive."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import InputFailure, SettingFailure, printable
from toolkit.sql import Answer

SHOWN_ROWS = 40
SHOWN_CHARACTERS = 48  # of one cell
GAP = "  "


def write_csv(answer: Answer, file: IO[bytes]) -> None:
    """A header and a line a row; lists and structures as JSON, null as nothing."""
    for number, frame in enumerate(_frames(answer)):
        file.write(_flat(frame).write_csv(include_header=number == 0).encode())


def write_json(answer: Answer, file: IO[bytes]) -> None:
    """One array of objects, a line a row; NaN and infinity are null."""
    separator = b"[\n"
    for frame in _frames(answer):
        for row in frame.iter_rows(named=True):
            file.write(separator + orjson.dumps(row, default=_plain))
            separator = b",\n"
    file.write(b"\n]\n" if separator == b",\n" else b"[]\n")


def write_parquet(answer: Answer, file: IO[bytes]) -> None:
    """Types as they are, but whole decimals (what summing counts gives) become 64-bit integers."""
    names = unique(answer.schema.names)
    schema = pa.schema([(name, _stored(kind)) for name, kind in zip(names, answer.schema.types, strict=True)])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in answer.batches:
            try:
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, names=names).cast(schema))
            except pa.ArrowInvalid as error:
                raise SettingFailure(f"{error}", where="SQL", hint="cast that column to DOUBLE") from error


def write_table(answer: Answer, file: IO[bytes], width: int) -> None:
    """The first rows in columns, or turned when they are wider than `width`; says what it left out."""
    rows: list[tuple[Any, ...]] = []
    names = unique(answer.schema.names)
    for frame in _frames(answer):
        rows += frame.head(SHOWN_ROWS + 1 - len(rows)).rows()
        if len(rows) > SHOWN_ROWS:
            break
    cells = [[_cell(value) for value in row] for row in rows[:SHOWN_ROWS]]
    right = [_is_number(kind) for kind in answer.schema.types]
    lines = _upright([printable(n) for n in names], cells, right)
    shown = len(cells)
    if max(map(len, lines)) > width and len(names) > 1:
        lines, shown = _turned([printable(n) for n in names], cells, width)
    if shown < len(rows):
        lines.append(f"… only the first {shown} shown; --format csv has every row")
    file.write("".join(f"{line}\n" for line in lines).encode())


WRITERS: dict[str, Callable[[Answer, IO[bytes]], None]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
}


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears whole or not at all; what is a link, a pipe or a device stays one and is written through."""
    replaced = not path.is_symlink() and (path.is_file() or not path.exists())
    part = path.with_name(path.name + ".partial") if replaced else path
    try:
        with part.open("wb") as file:
            yield file
        if replaced:
            part.replace(path)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise InputFailure(what, where=str(path), hint="choose another --out") from error
    finally:
        if replaced:
            part.unlink(missing_ok=True)


def unique(names: Iterable[str]) -> list[str]:
    """The names, with _1, _2 … after those that occurred before."""
    found: dict[str, None] = {}
    for name in names:
        candidate, number = name, 0
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found[candidate] = None
    return list(found)


def _frames(answer: Answer) -> Iterator[pl.DataFrame]:
    """The batches as polars frames, an empty one first so that a result without rows has its columns."""
    names = unique(answer.schema.names)
    yield _frame([pa.array([], kind) for kind in answer.schema.types], names)
    for batch in answer.batches:
        yield _frame(batch.columns, names)


def _frame(columns: list[pa.Array], names: list[str]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(n, pl.from_arrow(_known(c))) for n, c in zip(names, columns, strict=True)])


def _known(column: pa.Array) -> pa.Array:
    """Types that polars lacks as text."""
    strange = pa.types.is_interval(column.type) or pa.types.is_union(column.type) or pa.types.is_binary(column.type)
    if not strange:
        return column
    return pa.array([None if v is None else _text(v) for v in column.to_pylist()], pa.string())


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    nested = [n for n, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(
            n, [None if v is None else orjson.dumps(v, default=_plain).decode() for v in frame[n].to_list()]
        ).cast(pl.String)
        for n in nested
    )


def _plain(value: Any) -> Any:
    """What JSON has no word for: whole decimals are integers, spans of time are seconds, the rest is text."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "as_integer_ratio"):
        whole = value == int(value) and abs(value) < 2**63
        return int(value) if whole else float(value)
    return str(value)


def _stored(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_decimal(kind) and kind.scale == 0 else kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, dict)):
        value = orjson.dumps(value, default=_plain).decode()
    text = value if isinstance(value, str) else str(value)
    text = printable(text)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _upright(names: list[str], cells: list[list[str]], right: list[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    aligned = [
        GAP.join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in (names, *cells)
    ]
    return [aligned[0], GAP.join("─" * w for w in widths), *aligned[1:]]


def _turned(names: list[str], cells: list[list[str]], width: int) -> tuple[list[str], int]:
    """A line a column, as many rows as fit; and how many that are."""
    columns, room = [names], width - max(map(len, names))
    for row in cells:
        room -= max(map(len, row)) + len(GAP)
        if room < 0 and len(columns) > 1:
            break
        columns.append(row)
    widths = [max(map(len, column)) for column in columns]
    lines = [
        GAP.join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in zip(*columns, strict=True)
    ]
    return lines, len(columns) - 1
