"""Rows of planted truth."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from toolkit.schema import TRUTH

Row = dict[str, Any]


def fact(what: str, **columns: Any) -> Row:
    """One row of TRUTH; columns that are left out are null."""
    return {"what": what, **columns}


def facts(what: str, values: Mapping[str, float | str | None], **columns: Any) -> list[Row]:
    """One row for each parameter that has a value."""
    return [
        fact(what, parameter=name, **{"text" if isinstance(value, str) else "value": value}, **columns)
        for name, value in values.items()
        if value is not None
    ]


def table(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TRUTH)
