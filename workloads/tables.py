"""CSV files as typed lazy frames: fast where every cell fits, and a second, tolerant reading that explains itself.

A loader states the columns it reads as `{"Timestamp": pl.Float64(), "Model": pl.String()}`; a Datetime column is
parsed from text. The fast reading leaves everything to polars. Where that fails, the tolerant one takes cells that
mean "nothing" (NaN, null …) as null and whole numbers written as 12.0, and reports the first cell that still does not
fit with its line and column.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import InputFailure, SettingFailure, nearest
from toolkit.protocols import LoadOptions, Scan

LONGEST_HEADER_BYTES = 2**20
LONGEST_CELL_SHOWN = 40
NOTHING = ("", "nan", "null", "none", "na", "n/a", "nat")
CUT_SHORT = "truncated last line"
BLANK = "blank line"
NOT_UTF8 = "{} is not UTF-8: bytes that are not were read as \N{REPLACEMENT CHARACTER}, so names may have become alike."
LONE_RETURNS, MEND_RETURNS = "its lines end in carriage returns alone", r"end them in newlines (tr '\r' '\n')"

Fields = Mapping[str, pl.DataType]
Build = Callable[[pl.LazyFrame], pl.LazyFrame]

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Table:
    """CSV files of one format. `fields` are the columns to read; `optional` ones may be absent and are then null."""

    paths: Sequence[Path]
    fields: Fields
    optional: Fields | None = None

    def scan(self, build: Build, **facts: Any) -> Scan:
        """A Scan of `build(source columns)`, which also gets `drop_reason`; `facts` are Scan's other fields."""
        parts = [self._fast(path) for path in self.paths if path.stat().st_size]
        if not parts:
            raise InputFailure("the file is empty", where=str(self.paths[0]))
        frame = pl.concat([frame for frame, _ in parts])
        return Scan(
            build(_blank_marked(frame)),
            dropped=_counted(reason for _, reasons in parts for reason in reasons),
            reread=lambda: self._tolerant(build, facts),
            **facts,
        )

    def _fast(self, path: Path) -> tuple[pl.LazyFrame, tuple[str, ...]]:
        header = self._header(path)
        wanted = {**self.fields, **(self.optional or {})}
        schema = {name: _as_read(wanted.get(name, pl.String())) for name in header}
        cut = _last_line_is_short(path, len(header))
        frame = pl.scan_csv(path, schema=schema, n_rows=_whole_rows(path) if cut else None, glob=False)
        return self._typed(frame, header, path, strict=True), (CUT_SHORT,) * cut

    def _tolerant(self, build: Build, facts: dict[str, Any]) -> Scan:
        parts = [self._diagnosed(path) for path in self.paths if path.stat().st_size]
        frame = pl.concat([frame for frame, _ in parts])
        dropped = _counted(reason for _, reasons in parts for reason in reasons)
        notes = (*facts.get("notes", ()), *(NOT_UTF8.format(path.name) for path in self.paths if not _is_utf8(path)))
        return Scan(build(_blank_marked(frame)), dropped=dropped, **(facts | {"notes": notes}))

    def _diagnosed(self, path: Path) -> tuple[pl.LazyFrame, tuple[str, ...]]:
        header = self._header(path)
        schema = dict.fromkeys(header, pl.String())
        frame = pl.scan_csv(path, schema=schema, encoding="utf8-lossy", truncate_ragged_lines=True, glob=False)
        rows = _whole_rows(path) if _last_line_is_short(path, len(header)) else None
        wanted = {n: t for n, t in {**self.fields, **(self.optional or {})}.items() if n in header}
        try:
            bad = _first_bad_row(frame, wanted, len(header), path)
        except pl.exceptions.PolarsError as error:
            what = f"cannot be parsed ({str(error).splitlines()[0]})"
            raise InputFailure(what, where=str(path), hint="look for a quote that is opened and not closed") from error
        if bad is not None and (rows is None or bad < rows):
            if _ends_in_newline(path) or bad != _row_count(path) - 1:
                raise _bad_cell(path, bad, header, wanted)
            rows = bad
        frame = frame if rows is None else frame.head(rows)
        return self._typed(frame, header, path, strict=False), () if rows is None else (CUT_SHORT,)

    def _typed(self, frame: pl.LazyFrame, header: list[str], path: Path, *, strict: bool) -> pl.LazyFrame:
        cells = {n: cell(n, t, path, strict=strict) for n, t in self.fields.items()}
        for name, dtype in (self.optional or {}).items():
            cells[name] = cell(name, dtype, path, strict=strict) if name in header else pl.lit(None, dtype)
        everything = pl.all_horizontal(pl.col(header).is_null())
        return frame.select(_blank=everything, **cells)

    def _header(self, path: Path) -> list[str]:
        header = read_header(path)
        for name in self.fields:
            if name not in header:
                raise InputFailure(f"no column '{name}'", where=str(path), hint=nearest(name, header))
        return header


def refuse_mapping(options: LoadOptions) -> None:
    """Refuse --map where the format fixes the columns' names."""
    if options.columns:
        raise SettingFailure("this format's names are fixed", where="--map", hint="leave out --format to map columns")


def header_of(head: bytes) -> list[str]:
    """The column names in a CSV's first bytes; empty where there is no whole first line of text."""
    line, newline, _ = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if not newline or b"\0" in line:
        return []
    return _cells(line)


def _cells(line: bytes) -> list[str]:
    """The cells of one line; a carriage return inside it ends it."""
    return next(csv.reader(io.StringIO(line.decode(errors="replace"), newline="")), [])


def read_header(path: Path) -> list[str]:
    """A CSV file's column names; raises InputFailure where the first line cannot be a header."""
    with path.open("rb") as file:
        line = file.readline(LONGEST_HEADER_BYTES)
    if len(line) == LONGEST_HEADER_BYTES:
        raise InputFailure(f"its first line is longer than {LONGEST_HEADER_BYTES:,} bytes", where=f"{path}, line 1")
    if b"\0" in line:
        raise InputFailure("it is a binary file, not a table", where=str(path))
    if b"\r" in line.rstrip(b"\r\n"):
        raise InputFailure(LONE_RETURNS, where=str(path), hint=MEND_RETURNS)
    names = header_of(line if line.endswith(b"\n") else line + b"\n")
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise InputFailure(f"column '{twice}' occurs twice", where=f"{path}, line 1")
    return names


def resemblance(head: bytes, needed: Sequence[str]) -> float:
    """1 for a header with every needed column, else a small number that grows with how many there are."""
    header = header_of(head)
    found = sum(name in header for name in needed)
    return 1.0 if found == len(needed) else 0.05 * found / len(needed)


def first_cell(path: Path, column: str) -> str:
    """The first cell of `column` that holds something; "" where there is none among the first rows."""
    with path.open("rb") as file:
        lines = file.read(LONGEST_HEADER_BYTES).removeprefix(b"\xef\xbb\xbf").decode(errors="replace").splitlines()
    cells = (row.get(column) or "" for row in csv.DictReader(lines))
    return next((c.strip() for c in cells if c.strip().lower() not in NOTHING), "")


def stamp_format(cell: str) -> str:
    """The strptime format of a written moment: `T` or a space in the middle, with or without a zone."""
    middle = "T" if "T" in cell else " "
    zoned = "Z" in cell or "+" in cell or "-" in cell[10:]
    return f"%Y-%m-%d{middle}%H:%M:%S%.f{'%#z' if zoned else ''}"


def cell(name: str, dtype: pl.DataType, path: Path, *, strict: bool) -> pl.Expr:
    """Column `name` as `dtype`; read as text where `strict` is off, and then null where it does not fit."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return _moment(column, first_cell(path, name), strict=strict)
    if strict or dtype == pl.String():
        return column
    text = _something(column)
    if dtype.is_integer():
        return pl.coalesce(text.cast(dtype, strict=False), _whole(text.cast(pl.Float64, strict=False), dtype))
    return text.cast(dtype, strict=False)


def _moment(column: pl.Expr, example: str, *, strict: bool) -> pl.Expr:
    """Nanoseconds since 1970, the zone applied where one is written."""
    text = column if strict else _something(column)
    return (
        text.str.to_datetime(stamp_format(example), time_unit="ns", strict=strict)
        .dt.epoch("ns")
        .cast(pl.Datetime("ns"))
    )


def _something(column: pl.Expr) -> pl.Expr:
    text = column.str.strip_chars()
    return pl.when(~text.str.to_lowercase().is_in(NOTHING)).then(text)


def _whole(number: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return pl.when(number.is_finite() & (number == number.round())).then(number).cast(dtype, strict=False)


def _as_read(dtype: pl.DataType) -> pl.DataType:
    return pl.String() if isinstance(dtype, pl.Datetime) else dtype


def _blank_marked(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(drop_reason=pl.when("_blank").then(pl.lit(BLANK))).drop("_blank")


def _counted(reasons: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _last_line_is_short(path: Path, fields: int) -> bool:
    """Whether the file breaks off inside its last line: no newline at its end, and fields missing."""
    if _ends_in_newline(path):
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_HEADER_BYTES))
        last = file.read().rpartition(b"\n")[2]
    return len(_cells(last)) < fields and bool(last.strip())


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def _row_count(path: Path) -> int:
    names = dict.fromkeys(read_header(path), pl.String())
    counted = pl.scan_csv(path, schema=names, encoding="utf8-lossy", truncate_ragged_lines=True, glob=False)
    return int(counted.select(pl.len()).collect(engine="streaming").item())


def _whole_rows(path: Path) -> int:
    return _row_count(path) - 1


def _first_bad_row(frame: pl.LazyFrame, wanted: Fields, fields: int, path: Path) -> int | None:
    """Index of the first row with a cell that does not fit, or with more fields than the header."""
    bad = [
        _something(pl.col(n)).is_not_null() & cell(n, t, path, strict=False).is_null()
        for n, t in wanted.items()
        if t != pl.String()
    ]
    if not bad:
        return None
    rows = frame.with_row_index("_row").filter(pl.any_horizontal(bad)).select("_row").head(1)
    found = rows.collect(engine="streaming").to_series().to_list()
    return min((*found, *_first_ragged_row(path, fields)), default=None)


def _first_ragged_row(path: Path, fields: int) -> list[int]:
    """The index of the first row with more fields than the header, if there is one; polars tells fast if not."""
    strict = pl.scan_csv(path, schema=dict.fromkeys(read_header(path), pl.String()), encoding="utf8-lossy", glob=False)
    try:
        strict.select(pl.all_horizontal(pl.all().is_null()).sum()).collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return [i for i, (row, _) in enumerate(_rows(path)) if len(row) > fields][:1]
    return []


def _bad_cell(path: Path, index: int, header: list[str], wanted: Fields) -> InputFailure:
    row, line = next((found for i, found in enumerate(_rows(path)) if i == index), ([], index + 2))
    if len(row) > len(header):
        what = f"has {len(row)} fields where the header has {len(header)}"
        return InputFailure(what, where=f"{path}, line {line}", hint="quote a field that holds a comma")
    values = pl.DataFrame(
        [row + [None] * (len(header) - len(row))], schema=dict.fromkeys(header, pl.String()), orient="row"
    )
    for name, dtype in wanted.items():
        told = values.select(a=_something(pl.col(name)), b=cell(name, dtype, path, strict=False))
        if dtype != pl.String() and told["a"].item() is not None and told["b"].item() is None:
            where = f"{path}, line {line}, column '{name}'"
            return InputFailure(f"{_shown(told['a'].item())} is not {_words(dtype)}", where=where)
    return InputFailure("the row cannot be read", where=f"{path}, line {line}")


def _rows(path: Path) -> Iterator[tuple[list[str], int]]:
    """The data rows with the line on which each begins, as polars counts rows: a blank line is one."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        reader = csv.reader(file)
        next(reader, None)
        begins = reader.line_num + 1
        try:
            for row in reader:
                yield row, begins
                begins = reader.line_num + 1
        except csv.Error as error:  # only a carriage return that no newline follows; polars takes it for text
            raise InputFailure(LONE_RETURNS, where=f"{path}, line {begins}", hint=MEND_RETURNS) from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_CELL_SHOWN else f"{text[:LONGEST_CELL_SHOWN]}…")


def _words(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "a date and time, as 2026-01-31T12:00:00.5+01:00 is"
    return "a whole number" if dtype.is_integer() else "a number"
