"""Typed columns from parsed JSON records; a record that does not fit is explained with its place and key.

A loader states the keys it reads as `{"timestamp": TIME, "input_length": TOKENS, "hash_ids": optional(BLOCKS)}`. A key
that is not optional must be in every record; a null value stays null, because unknown is null.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import NoneType
from typing import Any

import numpy as np
import polars as pl

from toolkit.errors import InputFailure, nearest


@dataclass(frozen=True)
class Kind:
    """What a key may hold: the column's type and the words for it in an error message."""

    dtype: pl.DataType
    words: str
    required: bool = True


TIME = Kind(pl.Float64(), "a number")
NUMBER = Kind(pl.Float64(), "a number")
WHOLE = Kind(pl.Int64(), "a whole number")
TOKENS = WHOLE  # a count that is negative or impossible is dropped, with its reason, where the scan is read
TEXT = Kind(pl.String(), "text")
NAME = Kind(pl.String(), "text or a whole number")
MOMENT = Kind(pl.Datetime("us", "UTC"), "an ISO 8601 time")
BLOCKS = Kind(pl.List(pl.UInt64()), "a list of whole numbers from 0")
TOKEN_TIMES = Kind(pl.List(pl.Float32()), "a list of numbers")

NO_TEXT = r"^(?:[\[{]|true$|false$|-?[0-9])"  # polars writes whatever it finds as text: this may be a list, a number …
NO_NAME = r"^(?:[\[{]|true$|false$|-?[0-9]+[.eE])"

PYTHON_TYPES: Mapping[Any, tuple[type, ...]] = {
    pl.Float32(): (int, float),
    pl.Float64(): (int, float),
    pl.Int32(): (int,),
    pl.Int64(): (int,),
    pl.UInt64(): (int,),
    pl.String(): (str,),
    pl.Datetime("us", "UTC"): (datetime,),
}

Fields = Mapping[str, Kind]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a row came from: the line of its file, or the item of its document."""

    line: int | None = None
    item: int | None = None

    def __str__(self) -> str:
        parts = (("line", self.line), ("item", self.item))
        return ", ".join(f"{word} {number}" for word, number in parts if number is not None)


def optional(kind: Kind) -> Kind:
    """The same kind of value in a key that a record may lack."""
    return replace(kind, required=False)


def schema_of(fields: Fields) -> dict[str, pl.DataType]:
    return {name: kind.dtype for name, kind in fields.items()}


def table(rows: Sequence[Row], places: Sequence[Place], fields: Fields, source: str) -> pl.DataFrame:
    """One column a field; raises InputFailure for the first row whose value or key does not fit."""
    return pl.DataFrame([_column(rows, places, name, kind, source) for name, kind in fields.items()])


def doubtful(frame: pl.DataFrame, fields: Fields) -> bool:
    """Whether a frame that polars parsed itself may hide a missing key behind a null, or another type behind text."""
    return any(_is_doubtful(frame[name], kind) for name, kind in fields.items())


def _is_doubtful(column: pl.Series, kind: Kind) -> bool:
    if kind.required and column.null_count():
        return True
    if not isinstance(kind.dtype, pl.String):
        return False
    looks_other = NO_NAME if kind.words == NAME.words else NO_TEXT
    return bool(column.str.contains(looks_other).any())


def _column(rows: Sequence[Row], places: Sequence[Place], name: str, kind: Kind, source: str) -> pl.Series:
    try:
        values = [row[name] for row in rows] if kind.required else [row.get(name) for row in rows]
    except KeyError:
        raise _missing(rows, places, name, source) from None
    try:
        return _series(name, values, kind)
    except (TypeError, ValueError, OverflowError):
        return _series(name, _checked(values, places, name, kind, source), kind)


def _series(name: str, values: list[Any], kind: Kind) -> pl.Series:
    if isinstance(kind.dtype, pl.List):
        return _lists(name, values, kind.dtype)
    if kind.words == NAME.words:
        values = [str(value) if type(value) is int else value for value in values]
    _refuse_other_types(values, kind.dtype)
    return pl.Series(name, values, dtype=kind.dtype, strict=True)


def _refuse_other_types(values: Iterable[Any], dtype: Any) -> None:
    """Polars would take true for 1, and would need all memory for an object that is nested a thousand deep."""
    if not set(map(type, values)) <= {NoneType, *PYTHON_TYPES[dtype]}:
        raise TypeError("a value of another type")


def _lists(name: str, values: list[Any], dtype: pl.List) -> pl.Series:
    """A list column through one numpy array: ten times faster than polars' own conversion of nested lists."""
    import pyarrow as pa

    if not all(isinstance(value, (list, np.ndarray)) for value in values if value is not None):
        raise TypeError("not a list")
    wanted = "iu" if dtype.inner == pl.UInt64() else "iuf"
    parts = [np.asarray(value) for value in values if value is not None and len(value)]
    flat = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    if flat.dtype.kind not in wanted or (flat.dtype.kind == "i" and wanted == "iu" and flat.min() < 0):
        _refuse_other_types((item for value in values if value is not None for item in value), dtype.inner)
        return pl.Series(name, values, dtype=dtype, strict=True)
    ends = np.cumsum([0, *(0 if value is None else len(value) for value in values)], dtype=np.int64)
    nulls = pa.array([value is None for value in values], pa.bool_())
    numbers = pa.array(flat.astype(np.uint64 if wanted == "iu" else np.float32))
    lists = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(ends), numbers, mask=nulls))
    assert isinstance(lists, pl.Series)
    return lists.alias(name)


def _checked(values: list[Any], places: Sequence[Place], name: str, kind: Kind, source: str) -> list[Any]:
    """The values, one by one in their column's type; the first that does not fit is reported."""
    return [_fitting(value, place, name, kind, source) for value, place in zip(values, places, strict=True)]


def _fitting(value: Any, place: Place, name: str, kind: Kind, source: str) -> Any:
    if value is None:
        return None
    if isinstance(kind.dtype, pl.Int64) and isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        _series(name, [value], kind)
    except (TypeError, ValueError, OverflowError):
        where = f"{source}, {place}"
        raise InputFailure(f"'{name}' is {shown(value)}, not {kind.words}", where=where) from None
    return value


def _missing(rows: Sequence[Row], places: Sequence[Place], name: str, source: str) -> InputFailure:
    row, place = next((row, place) for row, place in zip(rows, places, strict=True) if name not in row)
    return InputFailure(f"no key '{name}'", where=f"{source}, {place}", hint=nearest(name, map(str, row)))


def shown(value: Any) -> str:
    """A value of a record in an error message: short, and quoted when it is text."""
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, (int, float, list))), None)
        return "a list" if odd is None else f"a list with {shown(odd)}"
    if isinstance(value, dict):
        return "an object"
    text = f"text '{value}'" if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
