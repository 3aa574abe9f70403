"""Read-only SQL over traces, runs, sweeps and analyses: DuckDB in memory, filled and then locked.

Files are handed over as Arrow data sets, so no path and no name from a file ever becomes SQL, and the database itself
needs no access to the disk.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from toolkit import sources
from toolkit.errors import Failure, InputFailure, SettingFailure, nearest
from toolkit.runs import PARTS
from toolkit.schema import OUTCOMES, TABLES, TRACE
from toolkit.sweeps import SweepFolder
from toolkit.views import MACROS, METRICS, OF_RUN, VIEWS

Connection = duckdb.DuckDBPyConnection
Result = TypeVar("Result")

CLOSED = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
}
READING = ("SELECT", "EXPLAIN", "MULTI")  # MULTI is what PIVOT is made of
CLOSED_HINT = "queries see the views only; --allow-files lets them read files"
BATCH_ROWS = 16_384
NAP_S = 0.1
MISSING_COLUMN = re.compile(r'(?:Referenced column|column named) "(.+?)"')
MISSING_TABLE = re.compile(r'Table with name "?(.+?)"? does not exist')


@dataclass(frozen=True)
class Answer:
    """The columns of a result and its rows, which arrive while they are read."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@contextmanager
def database(
    *,
    runs: Sequence[Path] = (),
    traces: Sequence[str | Path] = (),
    analysis: Path | None = None,
    sweep: Path | None = None,
    allow_files: bool = False,
) -> Iterator[Connection]:
    """A database of the documented views. What it may touch beyond them is settled before the first query."""
    with (
        tempfile.TemporaryDirectory(prefix="trace-query-") as scratch,
        duckdb.connect(config={**CLOSED, "temp_directory": scratch}) as connection,
    ):
        for call, body in MACROS.items():
            connection.execute(f"CREATE MACRO {call} AS {body}")
        _fill(connection, sources.gather(runs, traces, Path(scratch)))
        if analysis is not None:
            _fill_analysis(connection, analysis)
        if sweep is not None:
            _fill_sweep(connection, SweepFolder.open(sweep))
        if not allow_files:
            connection.execute("SET enable_external_access = false")
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def select(connection: Connection, sql: str) -> Answer:
    """Run one statement that only reads; Ctrl-C stops it."""
    _check(connection, sql)
    worker = ThreadPoolExecutor(1)

    def patiently(call: Callable[[], Result]) -> Result:
        # The engine does not look for signals while it works, so it works in a thread; this one waits in short naps
        # because the signal may be given to any thread.
        try:
            running = worker.submit(call)
            while not wait([running], timeout=NAP_S).done:
                continue
            return running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            worker.shutdown()
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise failure(connection, error) from error

    def batches() -> Iterator[pa.RecordBatch]:
        while (batch := patiently(lambda: next(reader, None))) is not None:
            yield batch

    reader: Any = patiently(lambda: connection.sql(sql).to_arrow_reader(BATCH_ROWS))
    return Answer(reader.schema, batches())


def views(connection: Connection) -> dict[str, list[str]]:
    """Every view that is there, with its columns."""
    found: dict[str, list[str]] = {}
    rows = connection.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def failure(connection: Connection, error: Exception) -> Failure:
    """The database's error in one line, with the nearest name there is."""
    what, _, rest = str(error).partition("\n")
    what = what.partition("Error: ")[2] or what
    return SettingFailure(what.rstrip("!"), where="SQL", hint=_hint(connection, what, rest, error))


def _hint(connection: Connection, what: str, rest: str, error: Exception) -> str | None:
    if isinstance(error, duckdb.PermissionException):
        return CLOSED_HINT
    known = views(connection)
    if missing := MISSING_TABLE.search(what):
        name = missing[1].casefold()
        if name in VIEWS:
            return f"it needs {VIEWS[name][0]}"
        return CLOSED_HINT if "/" in name or "." in name else nearest(name, known)
    if missing := MISSING_COLUMN.search(what):
        return _column_hint(missing[1], known)
    return rest.partition("\n")[0].strip() if rest.startswith("Did you mean") else None


def _column_hint(name: str, known: dict[str, list[str]]) -> str | None:
    """Where the column is, or else the one that its name is like."""
    holding = sorted(view for view, columns in known.items() if name.casefold() in map(str.casefold, columns))
    if holding:
        return f"it is in {', '.join(holding)}"
    return nearest(name, {column for columns in known.values() for column in columns})


def _check(connection: Connection, sql: str) -> None:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise failure(connection, error) from error
    if len(statements) != 1:
        raise SettingFailure(f"{len(statements)} statements", where="SQL", hint="give one")
    kind = statements[0].type.name
    if kind not in READING:
        raise SettingFailure(f"{kind} is not allowed", where="SQL", hint="queries only read: SELECT, FROM, WITH")


def _fill(connection: Connection, found: sources.Found) -> None:
    if found.traces:
        _view(connection, "trace", sources.dataset(found.traces, TRACE, "trace_name"))
    if not found.runs.is_empty():
        metrics = ", ".join(f"{expression} AS {name}" for name, expression in METRICS.items())
        outcomes = sources.dataset(found.tables["outcomes"], OUTCOMES, *OF_RUN)
        connection.from_arrow(outcomes).project(f"*, {metrics}").create_view("outcomes")
        _view(connection, "runs", found.runs.to_arrow())
        for name in PARTS[1:]:
            _view(connection, name, sources.dataset(found.tables[name], TABLES[name], *OF_RUN))


def _fill_analysis(connection: Connection, folder: Path) -> None:
    tables = sources.analysis_tables(folder)
    known = {name.casefold() for name in views(connection)}
    for name, table in tables.items():
        if name.casefold() in known | set(VIEWS):
            raise InputFailure(f"table '{name}' has the name of a view", where=str(folder), hint="rename the file")
        known.add(name.casefold())
        _view(connection, name, table)


def _fill_sweep(connection: Connection, folder: SweepFolder) -> None:
    _view(connection, "sweep", folder.table().to_arrow())
    _view(connection, "capacity", folder.capacity().to_arrow())


def _view(connection: Connection, name: str, data: Any) -> None:
    connection.from_arrow(data).create_view(name)
