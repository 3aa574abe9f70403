"""Tables read batch by batch, which keeps what is empty from taking memory."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import polars as pl

MANY = 1_000_000  # rows, from which reading a column that holds nothing takes longer than finding out
HEAD = 1_000  # rows that are looked at first: asking the statistics of a column that holds something reads much of it


def gathered(frames: Mapping[str, pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    """These tables in memory, from one pass over what they share."""
    found = {name: _Gathered(frame.collect_schema()) for name, frame in frames.items()}
    pl.collect_all([frame.sink_batches(found[n].add, lazy=True) for n, frame in frames.items()], engine="streaming")
    return {name: each.frame() for name, each in found.items()}


def without_the_empty(stored: pl.LazyFrame, columns: Collection[str], rows: int) -> pl.LazyFrame:
    """Parquet without what need not be read: those of `columns` that hold nothing, which are null instead.

    A file's statistics tell, without reading a page, of a column that begins with nothing; those of lists are not
    looked at.
    """
    if rows < MANY:
        return stored
    schema = stored.collect_schema()
    flat = [name for name in columns if not schema[name].is_nested()]
    begin = stored.select(flat).head(HEAD).collect()
    lacking = [column.name for column in begin if column.null_count() == begin.height]
    found = {name: stored.filter(pl.col(name).is_not_null()).select(name).head(1).collect() for name in lacking}
    return stored.with_columns(pl.lit(None, schema[name]).alias(name) for name, one in found.items() if one.is_empty())


class _Gathered:
    """Batches as one frame; a column that holds nothing, as a trace has many, takes no memory."""

    def __init__(self, schema: pl.Schema):
        self._schema, self._height = schema, 0
        self._columns: dict[str, list[tuple[int, pl.Series | None]]] = {name: [] for name in schema}

    def add(self, batch: pl.DataFrame) -> None:
        for column in batch:
            empty = column.null_count() == batch.height
            self._columns[column.name].append((batch.height, None if empty else column))
        self._height += batch.height

    def frame(self) -> pl.DataFrame:
        """Once, as the batches are let go. Two columns at once: joining one keeps only one core busy."""
        with ThreadPoolExecutor(2) as crew:
            return pl.DataFrame(list(crew.map(self._joined, self._schema)))

    def _joined(self, name: str) -> pl.Series:
        parts, nothing = self._columns.pop(name), pl.Series(name, [None], self._schema[name])
        if all(part is None for _, part in parts):
            return nothing.new_from_index(0, self._height)
        return pl.concat([nothing.new_from_index(0, n) if part is None else part for n, part in parts], rechunk=True)
