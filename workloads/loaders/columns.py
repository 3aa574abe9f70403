"""Any CSV, JSON-lines or Parquet file whose columns bear the canonical names, or are mapped to them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from toolkit.errors import InputFailure, nearest
from toolkit.protocols import LoadOptions, Scan
from toolkit.schema import TRACE
from workloads.fields import BLOCKS, NAME, NUMBER, TEXT, TOKEN_TIMES, TOKENS, WHOLE, Kind, optional
from workloads.records import line_frame
from workloads.tables import Table, first_cell, header_of, read_header, stamp_format

PARQUET = b"PAR1"
MEASURED = {
    "sent_s": pl.Float64(),
    "start_s": pl.Float64(),
    "first_token_s": pl.Float64(),
    "finish_s": pl.Float64(),
    "cached_tokens": pl.Int32(),
    "error": pl.String(),
    "token_s": pl.List(pl.Float32()),
}
KNOWN: dict[str, pl.DataType] = {**TRACE, **MEASURED}
IN_SCAN = {  # a canonical name -> its name in a Scan
    "arrival_s": "arrival",
    "request_id": "source_id",
    "parent_id": "parent_source_id",
    **{n: n.removesuffix("_s") for n in ("sent_s", "start_s", "first_token_s", "finish_s")},
}
TIMES = ("arrival_s", "sent_s", "start_s", "first_token_s", "finish_s")
MOST_NAMED = 8
FINE = 10**14  # microseconds since 1970 and finer: doubles of this size blur the clock's step
UNITS = {"_s": "s", "_ms": "ms", "_us": "us", "_ns": "ns"}

Chosen = Mapping[str, str]  # canonical name -> source column


class Columns:
    """Any CSV, JSON-lines or Parquet table with canonical column names, or with --map."""

    def sniff(self, head: bytes, name: str) -> float:
        if head.startswith(PARQUET):
            return 0.2
        known = [n for n in _names(head) if n in KNOWN]
        return 0.3 if {"arrival_s", "prompt_tokens"} & set(known) else 0.01 * len(known)

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        kind = _kind_of_file(paths[0])
        for path in paths:
            if path.stat().st_size and _kind_of_file(path) != kind:
                what = f"is {_kind_of_file(path)}, and {paths[0]} is {kind}"
                raise InputFailure(what, where=str(path), hint="read files of one kind at a time")
        return {"Parquet": _parquet, "JSON lines": _json_lines, "CSV": _csv}[kind](paths, options)


def choose(have: list[str], columns: Mapping[str, str], source: Path) -> dict[str, str]:
    """Canonical name -> source column: what the user mapped, and columns that bear canonical names."""
    for name, mapped in columns.items():
        if mapped not in have:
            hint = nearest(mapped, have)
            raise InputFailure(f"no column '{mapped}' for {name}", where=str(source), hint=hint)
    chosen = {name: name for name in have if name in KNOWN and name not in columns.values()} | dict(columns)
    if not {"arrival_s", "prompt_tokens", "output_tokens"} & set(chosen):
        what = f"no column bears a canonical name (it has {', '.join(have[:12])})"
        raise InputFailure(what, where=str(source), hint="use --map arrival_s=COLUMN,prompt_tokens=COLUMN,…")
    if "parent_id" in chosen and "request_id" not in chosen:
        what = "has parent_id and no request_id, so whom it names is unknown"
        raise InputFailure(what, where=str(source), hint="use --map request_id=COLUMN")
    return chosen


def unread(have: Iterable[str], chosen: Chosen) -> tuple[str, ...]:
    """Notes of the columns that are not read, as a misspelt one is not, and of one that says nothing alone."""
    left = [repr(name) for name in dict.fromkeys(have) if name not in chosen.values()]
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    said = [f"Not read: {', '.join(left[:MOST_NAMED])}{more}; --map binds a column to a name."] if left else []
    if "think_s" in chosen and "parent_id" not in chosen:
        said.append("think_s is the wait after the request that parent_id names; no parent_id is here, so none waits.")
    return tuple(said)


def _csv(paths: list[Path], options: LoadOptions) -> Scan:
    chosen = choose(read_header(paths[0]), options.columns, paths[0])
    notes = unread((name for path in paths for name in read_header(path)), chosen)
    fields = {source: _csv_dtype(name, source, paths[0]) for name, source in chosen.items()}
    written = {source: KNOWN[name] for name, source in chosen.items() if isinstance(KNOWN[name], pl.List)}
    table = Table(paths, fields)
    return table.scan(lambda frame: _build(_lists(frame, written), chosen), notes=notes, **_time(chosen, fields))


def _csv_dtype(name: str, source: str, path: Path) -> pl.DataType:
    """How a column's cells are read; a time by its first cell: a large whole number, a number or a date."""
    if name in TIMES:
        return _time_dtype(first_cell(path, source))
    if name in ("request_id", "parent_id") or isinstance(KNOWN[name], pl.List):
        return pl.String()
    return pl.Int64() if KNOWN[name].is_integer() else KNOWN[name]


def _time_dtype(cell: str) -> pl.DataType:
    """A trace may begin at 0 and go on with 0.5, so a whole number says little, unless a double could not hold it."""
    for parse in (int, float):
        try:
            return pl.Int64() if abs(parse(cell)) >= FINE and parse is int else pl.Float64()
        except ValueError:
            continue
    return pl.Datetime("ns") if cell else pl.Float64()


def _lists(frame: pl.LazyFrame, written: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """A list in a CSV cell is written as JSON."""
    text = {source: pl.col(source).str.json_decode(pl.List(pl.String())) for source in written}
    return frame.with_columns(text[source].cast(dtype) for source, dtype in written.items())  # -1 fails, and is told


def _parquet(paths: list[Path], options: LoadOptions) -> Scan:
    try:
        first = pl.scan_parquet(paths[0], glob=False).collect_schema()
        schema = pl.Schema({n: pl.String() if dtype == pl.Categorical else dtype for n, dtype in first.items()})
        as_text = pl.ScanCastOptions(categorical_to_string="allow")  # names may be either, file by file
        frame = pl.scan_parquet(paths, glob=False, schema=schema, cast_options=as_text)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputFailure(f"cannot be read ({str(error).splitlines()[0]})", where=str(paths[0])) from error
    chosen = choose(schema.names(), options.columns, paths[0])
    for name, source in chosen.items():
        _check_type(name, source, schema[source], paths[0])
        if name in TIMES and schema[source] == pl.String():
            frame = _with_moments(frame, source)
        if isinstance(KNOWN[name], pl.List) or schema[source] == pl.Binary():
            wanted = pl.String() if schema[source] == pl.Binary() else KNOWN[name]
            frame = frame.with_columns(pl.col(source).cast(wanted))  # now, so that counting tells what does not fit
    return Scan(_build(frame, chosen), notes=unread(schema, chosen), **_time(chosen, frame.collect_schema()))


def _check_type(name: str, source: str, dtype: pl.DataType, path: Path) -> None:
    """Refuse a stored column that holds another kind of value than its canonical name wants."""
    wanted = KNOWN[name]
    if name in TIMES:
        fits, words = dtype.is_numeric() or isinstance(dtype, (pl.Datetime, pl.String)), "times"
    elif name in ("request_id", "parent_id") or wanted == pl.String():
        fits, words = not dtype.is_nested(), "names"
    elif isinstance(wanted, pl.List):
        fits, words = isinstance(dtype, pl.List), "lists"
    else:
        fits, words = dtype.is_numeric(), "numbers"
    if not fits and dtype != pl.Null():
        raise InputFailure(f"it holds {dtype}, not {words}", where=f"{path}, column '{source}'")


def _json_lines(paths: list[Path], options: LoadOptions) -> Scan:
    record = _first_record(paths[0])
    chosen = choose(list(record), options.columns, paths[0])
    fields = {source: optional(_kind(name, record.get(source))) for name, source in chosen.items()}
    frame = line_frame(paths, fields)
    for name, source in chosen.items():
        if name in TIMES and fields[source].dtype == pl.String():
            frame = _with_moments(frame, source)
    return Scan(_build(frame, chosen), notes=unread(record, chosen), **_time(chosen, frame.collect_schema()))


def _kind(name: str, value: Any) -> Kind:
    """What a key may hold, by its canonical name; a time by its first value."""
    dtype = KNOWN[name]
    if name in TIMES and isinstance(value, str):
        return NAME
    if isinstance(dtype, pl.List):
        return BLOCKS if name == "prefix_blocks" else TOKEN_TIMES
    if name.endswith("_tokens"):
        return TOKENS
    if name in TIMES:
        return WHOLE if isinstance(value, int) and abs(value) >= FINE else NUMBER
    if name in ("request_id", "parent_id") and isinstance(value, str):
        return TEXT
    return NAME if dtype == pl.String() else WHOLE if dtype.is_integer() else NUMBER


def _with_moments(frame: pl.LazyFrame, column: str) -> pl.LazyFrame:
    example = frame.select(pl.col(column).drop_nulls().first()).collect().item()
    moment = pl.col(column).str.to_datetime(stamp_format(str(example)), time_unit="ns")
    return frame.with_columns(moment.dt.epoch("ns").cast(pl.Datetime("ns")))


def _build(frame: pl.LazyFrame, chosen: Chosen) -> pl.LazyFrame:
    schema = frame.collect_schema()
    others = pl.struct(n for n in schema.names() if n != "drop_reason").hash()
    columns = {IN_SCAN.get(name, name): _column(name, source) for name, source in chosen.items()}
    if "drop_reason" in schema:
        columns["drop_reason"] = pl.col("drop_reason")
    return frame.select(row_hash=others, **columns)


def _column(name: str, source: str) -> pl.Expr:
    """Names are text whatever the source holds; the rest is cast when it enters the table."""
    as_text = name in ("request_id", "parent_id") or KNOWN[name] == pl.String()
    return pl.col(source).cast(pl.String) if as_text else pl.col(source)


def _time(chosen: Chosen, dtypes: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """Scan's time unit and its reason, from the column's type or name; null where neither says it."""
    source = chosen.get("arrival_s")
    if source is None:
        return {"time_unit": None, "time_unit_reason": "the source has no times"}
    if isinstance(dtypes[source], pl.Datetime):
        return {"time_unit": "datetime", "time_unit_reason": f"column '{source}' holds dates and times"}
    unit = next((unit for suffix, unit in UNITS.items() if source.lower().endswith(suffix)), None)
    return {"time_unit": unit, "time_unit_reason": f"column '{source}' names its unit"}


def _names(head: bytes) -> list[str]:
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        try:
            record = orjson.loads(head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0])
        except orjson.JSONDecodeError:
            return []
        return list(record) if isinstance(record, dict) else []
    return header_of(head)


def _first_record(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if text:
                try:
                    record = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise InputFailure(f"not JSON ({error})", where=f"{path}, line {number}") from error
                return record if isinstance(record, dict) else {}
    raise InputFailure("it holds no records", where=str(path))


def _kind_of_file(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(PARQUET):
        return "Parquet"
    return "JSON lines" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "CSV"
