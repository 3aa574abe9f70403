"""JSON records as a lazy frame: line by line or document by document, in batches of bounded size.

What every loader of JSON shares: a blank line and a last line that was cut off become rows with a `drop_reason`;
anything else that is not as the format says raises InputFailure with file, line and key.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from polars.exceptions import PolarsError
from polars.io.plugins import register_io_source

from toolkit.errors import InputFailure, SettingFailure, nearest
from toolkit.protocols import LoadOptions
from workloads.fields import Fields, Place, Row, doubtful, schema_of, shown, table

BATCH_BYTES = 4 << 20
BATCH_ROWS = 20_000
BLANK = "blank line"
TRUNCATED = "truncated last line"
BOM = b"\xef\xbb\xbf"

Unfold = Callable[[Any, str], Iterable[Row]]  # (record, where it stands) -> its requests


@dataclass(frozen=True)
class Batch:
    """Whole lines of one file; `ends_file` when nothing follows them."""

    path: Path
    first_line: int
    lines: list[bytes]
    ends_file: bool


def line_frame(paths: Sequence[Path], fields: Fields, unfold: Unfold | None = None) -> pl.LazyFrame:
    """The records of JSON-lines files as `fields` and a `drop_reason`; `unfold` gives the requests of one record.

    Without `unfold` a record is a request; polars then parses the lines in parallel, and only a batch with something
    unusual in it is read again line by line.
    """
    if unfold is None:
        return _lazy(lambda wanted: _flat_frames(paths, wanted), fields)
    return _lazy(lambda wanted: _unfolded_frames(paths, wanted, unfold), fields)


def document_frame(paths: Sequence[Path], fields: Fields, unfold: Unfold) -> pl.LazyFrame:
    """The requests of JSON documents, one a file or one a line of it, as `fields` and a `drop_reason`."""
    return _lazy(lambda wanted: _document_frames(paths, wanted, unfold), fields)


def check(paths: Sequence[Path], options: LoadOptions) -> None:
    """Refuse what no loader of records can do: an empty or binary file, and a mapping of names that are fixed."""
    check_names(options)
    for path in paths:
        with path.open("rb") as file:
            head = file.read(4096)
        if not head:
            raise InputFailure("the file is empty", where=str(path))
        if b"\0" in head:
            raise InputFailure("the file is binary, not JSON", where=str(path))


def check_names(options: LoadOptions) -> None:
    """Refuse --map for a format whose names are fixed."""
    if options.columns:
        raise SettingFailure("this format's names are fixed", where="--map", hint="leave out --format to map columns")


def documents(path: Path) -> Iterator[tuple[Any, str]]:
    """Every JSON document of a file, with words for where it stands."""
    content = path.read_bytes().removeprefix(BOM)
    try:
        yield orjson.loads(content), str(path)
        return
    except orjson.JSONDecodeError as error:
        whole_file = error
    lines = content.splitlines()
    if len(lines) < 2 or not _starts_with_document(lines[0]):
        yield _lenient(content, str(path), whole_file), str(path)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _parsed(line, where), where


def need(record: Any, key: str, where: str) -> Any:
    """`record[key]`, or InputFailure naming the nearest key there is."""
    if key not in as_object(record, where):
        raise InputFailure(f"no key '{key}'", where=where, hint=nearest(key, record))
    return record[key]


def need_list(record: Any, key: str, where: str) -> list[Any]:
    """`record[key]` if it is a list, else InputFailure."""
    value = need(record, key, where)
    if not isinstance(value, list):
        raise InputFailure(f"'{key}' is {shown(value)}, not a list", where=where)
    return value


def as_object(record: Any, where: str) -> dict[str, Any]:
    """`record` if it is an object, else InputFailure."""
    if not isinstance(record, dict):
        raise InputFailure(f"{shown(record)} stands where an object belongs", where=where)
    return record


def dig(record: Any, *keys: str) -> Any:
    """The value under nested keys, null where one of them is absent."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _lazy(frames: Callable[[Fields], Iterator[pl.DataFrame]], fields: Fields) -> pl.LazyFrame:
    """A frame that is read when it is collected, in batches, only the columns that are asked for."""

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _batch: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = {n: k for n, k in fields.items() if k.required or columns is None or n in columns}
        left = math.inf if limit is None else limit
        for frame in frames(wanted):
            frame = frame if columns is None else frame.select(columns)
            frame = frame if predicate is None else frame.filter(predicate)
            frame = frame if frame.height <= left else frame.head(int(left))
            left -= frame.height
            yield frame
            if left <= 0:
                return

    return register_io_source(source, schema={**schema_of(fields), "drop_reason": pl.String()}, is_pure=True)


def batches(paths: Sequence[Path]) -> Iterator[Batch]:
    """The lines of files in order, about BATCH_BYTES at a time; a line is never split."""
    for path in paths:
        with path.open("rb") as file:
            number, lines = 1, file.readlines(BATCH_BYTES)
            if lines:
                lines[0] = lines[0].removeprefix(BOM)
            while lines:
                following = file.readlines(BATCH_BYTES)
                yield Batch(path, number, lines, not following)
                number, lines = number + len(lines), following


def _flat_frames(paths: Sequence[Path], fields: Fields) -> Iterator[pl.DataFrame]:
    """Two batches are parsed at a time, and handed out in order."""
    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for batch in batches(paths):
            waiting.append(pool.submit(_flat_frame, batch, fields))
            if len(waiting) > 2:
                yield waiting.pop(0).result()
        for result in waiting:
            yield result.result()


def _flat_frame(batch: Batch, fields: Fields) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(b"".join(batch.lines), schema=schema_of(fields))
    except PolarsError:
        return _line_frame(batch, fields, None)
    if frame.height != len(batch.lines) or doubtful(frame, fields):
        return _line_frame(batch, fields, None)
    return frame.with_columns(drop_reason=pl.lit(None, pl.String))


def _unfolded_frames(paths: Sequence[Path], fields: Fields, unfold: Unfold) -> Iterator[pl.DataFrame]:
    return (_line_frame(batch, fields, unfold) for batch in batches(paths))


def _line_frame(batch: Batch, fields: Fields, unfold: Unfold | None) -> pl.DataFrame:
    """One batch, line by line: what reads anything, and what explains what cannot be read."""
    rows, places, dropped = [], [], []
    for number, line in enumerate(batch.lines, start=batch.first_line):
        reason = _drop_reason(line, batch, number)
        if reason is not None:
            dropped.append(reason)
            continue
        where = f"{batch.path}, line {number}"
        record = as_object(_parsed(line, where), where)
        for item, row in enumerate([record] if unfold is None else unfold(record, where), start=1):
            rows.append(row)
            places.append(Place(number, item if item > 1 else None))
    kept = table(rows, places, fields, str(batch.path)).with_columns(drop_reason=pl.lit(None, pl.String))
    if not dropped:
        return kept
    return pl.concat([kept, pl.DataFrame({"drop_reason": dropped})], how="diagonal")


def _drop_reason(line: bytes, batch: Batch, number: int) -> str | None:
    if not line.strip():
        return BLANK
    last = batch.ends_file and number == batch.first_line + len(batch.lines) - 1
    if last and number > 1 and not line.endswith(b"\n") and not _is_json(line):
        return TRUNCATED
    return None


def _document_frames(paths: Sequence[Path], fields: Fields, unfold: Unfold) -> Iterator[pl.DataFrame]:
    for path in paths:
        for document, where in documents(path):
            rows, first = iter(unfold(document, where)), 1
            while part := list(islice(rows, BATCH_ROWS)):
                places = [Place(item=item) for item in range(first, first + len(part))]
                first += len(part)
                yield table(part, places, fields, where).with_columns(drop_reason=pl.lit(None, pl.String))


def _parsed(content: bytes, where: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return _lenient(content, where, error)


def _lenient(content: bytes, where: str, error: orjson.JSONDecodeError) -> Any:
    """Python's own parser also takes NaN and Infinity, which Python's own writer writes."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise InputFailure(f"not JSON ({_reason(error)})", where=where) from None


def _reason(error: orjson.JSONDecodeError) -> str:
    return f"column {error.colno}: {error.msg.split(':')[0]}"


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return b"NaN" in line or b"Infinity" in line
    return True


def _starts_with_document(line: bytes) -> bool:
    return line.strip().startswith(b"{") and _is_json(line)
