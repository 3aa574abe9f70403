"""`trace query`: SQL over traces, runs, sweeps and analyses."""

import shutil
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from toolkit.errors import SettingFailure

if TYPE_CHECKING:
    from toolkit.sql import Answer, Connection

FORMATS = ("table", "csv", "json", "parquet")
WIDTH = 100  # of a table, where the terminal does not say


@click.command()
@click.argument("sql", required=False)
@click.option(
    "--run", "runs", multiple=True, type=click.Path(path_type=Path), metavar="PATH", help="A run, or a folder of runs."
)
@click.option("--trace", "traces", multiple=True, metavar="PATH", help="A trace in any format.")
@click.option(
    "--analysis", type=click.Path(path_type=Path), metavar="DIR", help="A folder that `trace analyze --out` made."
)
@click.option("--sweep", type=click.Path(path_type=Path), metavar="DIR", help="A folder that `trace sweep --out` made.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", help="How to print the rows.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the rows to this file."
)
@click.option("--allow-files", is_flag=True, help="Let the query read files it names.")
def query(
    sql: str | None,
    runs: tuple[Path, ...],
    traces: tuple[str, ...],
    analysis: Path | None,
    sweep: Path | None,
    form: str,
    out: Path | None,
    allow_files: bool,
) -> None:
    """Answer SQL over runs, sweeps, traces and analyses; without SQL, list the views.

    \b
    Example: trace query "SELECT model, p99(ttft_s) FROM outcomes GROUP BY model" --run runs/
    """
    from toolkit.sql import database, select

    if form == "parquet" and out is None:
        raise SettingFailure("Parquet is not for the terminal", where="--format parquet", hint="add --out FILE")
    if out is not None and out.resolve() in {Path(trace).resolve() for trace in traces}:
        raise SettingFailure("would take the place of the trace it asks", where="--out", hint="choose another file")
    if sql is None and not (runs or traces or analysis or sweep):
        click.echo(guide())
        return
    with database(runs=runs, traces=traces, analysis=analysis, sweep=sweep, allow_files=allow_files) as connection:
        if sql is None:
            click.echo(contents(connection))
        else:
            _write(select(connection, sql), form, out)


def guide() -> str:
    """Every view with its columns, the macros, and queries to start from."""
    from toolkit.views import EXAMPLES, MACROS, VIEWS

    views = [f"{name} ({option}): {row}\n{_wrapped(columns)}" for name, (option, row, columns) in VIEWS.items()]
    views.append("<analysis>_<table> (--analysis): the tables of docs/analyses.md")
    examples = [f'trace query "{sql}" {option} PATH' for sql, option in EXAMPLES.items()]
    return "\n\n".join([*views, "Macros\n" + _wrapped(MACROS), "Examples\n" + "\n".join(f"  {e}" for e in examples)])


def contents(connection: "Connection") -> str:
    """The views that these sources fill, with their columns."""
    from toolkit.errors import printable
    from toolkit.sql import views

    found = views(connection).items()
    return "\n\n".join(f"{printable(name)}\n{_wrapped(map(printable, columns))}" for name, columns in found)


def _wrapped(words: "Iterable[str]") -> str:
    import textwrap

    return textwrap.fill(" · ".join(words), WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _write(answer: "Answer", form: str, out: Path | None) -> None:
    from toolkit.results import WRITERS, write_table

    width = shutil.get_terminal_size((WIDTH, 24)).columns
    with _opened(out) as file:
        if form == "table":
            write_table(answer, file, width)
        else:
            WRITERS[form](answer, file)


def _opened(out: Path | None) -> AbstractContextManager[IO[bytes]]:
    from toolkit.results import whole_file

    return nullcontext(sys.stdout.buffer) if out is None else whole_file(out)
