"""The files behind the views of `trace query`, as Arrow data sets that are read only as far as a query asks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from toolkit.errors import InputFailure
from toolkit.runs import PARTS, Run, find_runs
from toolkit.schema import TRACE
from toolkit.telling_apart import told_apart
from toolkit.traces import FOOTER_KEY, TraceInfo, read_trace, write_trace
from toolkit.views import RUN_COLUMNS


@dataclass(frozen=True)
class Part:
    """A Parquet file and the columns that every one of its rows shares."""

    path: Path
    said: Mapping[str, str | None]


@dataclass(frozen=True)
class Found:
    """What the user named: parts of traces, of each table of the runs, and a row a run."""

    traces: list[Part]
    tables: dict[str, list[Part]]
    runs: pl.DataFrame


@dataclass(frozen=True)
class _Trace:
    """A trace as it lies on disk, and what its source measured."""

    source: str
    name: str
    file: Path
    format: str | None = None
    outcomes: Path | None = None


@dataclass
class _Gathered:
    tables: dict[str, list[Part]] = field(default_factory=lambda: {name: [] for name in PARTS})
    rows: list[dict[str, Any]] = field(default_factory=list)


def gather(runs: Sequence[Path], traces: Sequence[str | Path], scratch: Path) -> Found:
    """Find the files; a trace that is not canonical Parquet is converted into `scratch` first.

    What has the name of something else is called by the end of its path: rows of two runs never pass for one's.
    """
    folders = find_runs(runs)
    read = [_trace(str(trace), scratch / str(number)) for number, trace in enumerate(dict.fromkeys(traces))]
    measured = [trace for trace in read if trace.outcomes is not None]
    gathered = _Gathered()
    own = [run.name for run in folders] + [trace.name for trace in measured]
    names = told_apart(own, [str(run.path.resolve()) for run in folders] + [trace.source for trace in measured])
    for run, name in zip(folders, names, strict=False):
        _add_run(gathered, run, name)
    for trace, name in zip(measured, names[len(folders) :], strict=True):
        _add_measured(gathered, trace, name)
    called = told_apart([trace.name for trace in read], [trace.source for trace in read])
    parts = [Part(trace.file, {"trace_name": name}) for trace, name in zip(read, called, strict=True)]
    return Found(parts, gathered.tables, run_table(gathered.rows))


def dataset(parts: Iterable[Part], schema: pl.Schema, *shared: str) -> ds.Dataset:
    """The parts as one table of `schema`, after the `shared` columns that each part says of itself."""
    columns = pl.DataFrame(schema={**dict.fromkeys(shared, pl.String()), **schema}).to_arrow().schema
    parquet, disk = ds.ParquetFileFormat(), fs.LocalFileSystem()
    fragments = [
        parquet.make_fragment(str(part.path), disk, partition_expression=_all_rows(part.said)) for part in parts
    ]
    return ds.FileSystemDataset(fragments, columns, parquet, disk)


def analysis_tables(folder: Path) -> dict[str, ds.Dataset]:
    """The tables of a folder that `trace analyze --out` wrote, by name."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputFailure("no table in it", where=str(folder), hint="name a folder that `trace analyze --out` made")
    try:
        return {file.stem: ds.dataset([str(file)], format="parquet") for file in files}
    except (pa.ArrowException, OSError) as error:
        raise InputFailure("holds a table that cannot be read", where=str(folder), hint="analyse again") from error


def run_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """A row a run. Entries of mixed types are text."""
    names = dict.fromkeys([*RUN_COLUMNS, *(name for row in rows for name in row)])
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pl.DataFrame([_series(name, values) for name, values in columns.items()])


def flat(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested entries joined by `_`; a list is its JSON text."""
    found: dict[str, Any] = {}
    for key, value in entries.items():
        name = prefix + key.replace("-", "_")
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}_")
        else:
            found[name] = orjson.dumps(value).decode() if isinstance(value, list) else value
    return found


def _series(name: str, values: list[Any]) -> pl.Series:
    if name in RUN_COLUMNS or len({type(v) for v in values if v is not None} - {int, float}) > 1:
        return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
    return pl.Series(name, values, strict=False)


def _all_rows(said: Mapping[str, str | None]) -> ds.Expression:
    each = [ds.field(k).is_null() if v is None else ds.field(k) == v for k, v in said.items()]
    return reduce(and_, each)


def _add_run(gathered: _Gathered, run: Run, name: str) -> None:
    said = {"run": name, **{key: _name(run.info.get(key)) for key in ("scheduler", "placement")}}
    for table in PARTS:
        files = sorted((run.path / table).glob("part-*.parquet"))
        gathered.tables[table] += [Part(file, said) for file in files]
    gathered.rows.append({**flat(run.info), **said, "engine": _name(run.info.get("engine"))})


def _name(entry: Any) -> str | None:
    """What a setting is called, whether run.json holds its name or a record with it."""
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    return None if name is None else str(name)


def _trace(source: str, scratch: Path) -> _Trace:
    name = _canonical_name(Path(source))
    if name is not None:
        return _Trace(source, name, Path(source))
    trace, file = read_trace([source]), scratch.with_suffix(".parquet")
    write_trace(trace, file)
    if trace.outcomes is None:
        return _Trace(source, trace.info.name, file)
    outcomes = scratch.with_suffix(".outcomes.parquet")
    trace.outcomes.sink_parquet(outcomes)
    return _Trace(source, trace.info.name, file, trace.info.format, outcomes)


def _add_measured(gathered: _Gathered, trace: _Trace, name: str) -> None:
    """What the source itself measured is a run too."""
    assert trace.outcomes is not None
    gathered.tables["outcomes"].append(Part(trace.outcomes, {"run": name, "scheduler": None, "placement": None}))
    first = pl.scan_parquet(trace.outcomes, glob=False).select("run_id", "engine").head(1).collect().to_dicts()
    gathered.rows.append({"run": name, "state": "finished", "format": trace.format, **(first[0] if first else {})})


def _canonical_name(path: Path) -> str | None:
    """The trace's name where the file is canonical Parquet as `write_trace` writes it, else null."""
    try:
        metadata = pq.read_metadata(path)
        info = TraceInfo.from_dict(orjson.loads((metadata.metadata or {})[FOOTER_KEY.encode()]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None
    return info.name if metadata.schema.to_arrow_schema().names == list(TRACE) else None
