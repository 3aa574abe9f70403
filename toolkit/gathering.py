"""Tables read batch by batch, which keeps what is empty from taking memory."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import polars as pl

HEAD = 1_000  # rows


def gathered(frames: Mapping[str, pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    """These tables in memory, from one pass over what they share."""
    found = {name: Gathered(frame.collect_schema()) for name, frame in frames.items()}
    pl.collect_all([frame.sink_batches(found[n].add, lazy=True) for n, frame in frames.items()], engine="streaming")
    return {name: each.frame() for name, each in found.items()}


def in_parts(
    stored: pl.LazyFrame,
    columns: Sequence[str],
    rows: int,
    take: Callable[[int, pl.DataFrame], None],
    said: Collection[str] = (),
) -> None:
    """Give `take` these columns of stored Parquet part by part in order, so many rows each, with their numbers from 0.

    What holds nothing is not read where that is known (see `empty`), and takes no memory where it is not.
    """
    schema, numbers = stored.collect_schema(), count()
    nothing = {name: pl.Series(name, [None], schema[name]).new_from_index(0, rows) for name in columns}
    lacking = empty(stored, columns, said)

    def give(batch: pl.DataFrame) -> None:
        held = batch.select(column.name for column in batch if column.null_count() < batch.height).rechunk()
        part = [held[name] if name in held.columns else nothing[name].head(batch.height) for name in columns]
        take(next(numbers), pl.DataFrame(part))

    read = stored.select(name for name in columns if name not in lacking)
    read.sink_batches(give, chunk_size=rows, maintain_order=True, lazy=True).collect(engine="streaming")


def held(stored: pl.LazyFrame, columns: Sequence[str], said: Collection[str] = ()) -> pl.DataFrame:
    """These columns of stored Parquet in memory; what is known to hold nothing (see `empty`) is not read."""
    lacking, schema = empty(stored, columns, said), stored.select(columns).collect_schema()
    [found] = gathered({"stored": stored.select(name for name in columns if name not in lacking)}).values()
    nothing = [pl.Series(name, [None], schema[name]).new_from_index(0, found.height) for name in lacking]
    return found.with_columns(nothing).select(columns)


def empty(stored: pl.LazyFrame, columns: Collection[str], said: Collection[str] = ()) -> list[str]:
    """Those of `columns` that hold nothing, as is `said` of them or the statistics of stored Parquet tell.

    Only columns that begin with nothing are asked about, as others would be read for it; a list's statistics cannot be
    asked.
    """
    schema, begin = stored.collect_schema(), stored.select(columns).head(HEAD).collect()
    lacking = [column.name for column in begin if column.null_count() == begin.height]
    asked = [name for name in lacking if name not in said and not schema[name].is_nested()]
    held = {name: stored.filter(pl.col(name).is_not_null()).select(name).head(1).collect().height for name in asked}
    return [name for name in lacking if name in said or held.get(name) == 0]


class Gathered:
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
