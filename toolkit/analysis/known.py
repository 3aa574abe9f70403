"""Rows of which something is known."""

import polars as pl


def known(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The rows in which none of `columns` (of all, where none is named) is null; not a copy where these are all."""
    if not any(frame[name].null_count() for name in columns or frame.columns):
        return frame
    return frame.drop_nulls(columns or None)
