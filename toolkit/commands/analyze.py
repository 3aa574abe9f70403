"""`trace analyze`: what is in this traffic."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.on_option import on_option
from toolkit.trace_options import open_trace, trace_options

if TYPE_CHECKING:
    from toolkit.analyses import Asked, Tables
    from toolkit.traces import Trace


@click.command()
@click.argument("trace", nargs=-1, required=True, metavar="TRACE...")
@trace_options
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Also write tables and a page."
)
@click.option("--groups", is_flag=True, help="Also find models that burst together.")
@click.option("--groups-by", type=click.Choice(("model", "tenant")), help="Who may form a group; implies --groups.")
@click.option("--drift", is_flag=True, help="Also find drift of token lengths, and clients.")
@on_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the summary.")
def analyze(trace: tuple[str, ...], out: Path | None, on: str, as_json: bool, **arguments: Any) -> None:
    """Describe a trace: arrivals, lengths, models, idleness, prefix reuse, sessions.

    TRACE is a file, a glob or a folder of one format, here or in a store
    (s3://BUCKET/…); several are read as one trace.

    Example: trace analyze requests.csv --out analysis/
    """
    opened, tables = _answers(trace, arguments) if on == "local" else _answers_on_ray(on, trace, arguments)
    from toolkit.analysis_json import as_json as to_json

    text = to_json(tables, opened.info)
    if as_json:
        click.echo(text, nl=False)
    else:
        from toolkit.summary import show

        show(tables, opened.info)
    if out is not None:
        from toolkit.analyses import save

        report, *others = save(tables, opened, text, out)
        click.echo(f"wrote {report} and {len(others)} tables beside it", err=True)


def _answers(paths: tuple[str, ...], arguments: dict[str, Any]) -> "tuple[Trace, Tables]":
    """Open and analyse, saying on a terminal what is being done."""
    from toolkit.analyses import analyse

    asked = _asked(arguments)
    if not sys.stderr.isatty():
        opened = open_trace(paths, arguments)
        return opened, analyse(opened, asked=asked)
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        opened = open_trace(paths, arguments)
        return opened, analyse(opened, status.update, asked)


def _answers_on_ray(on: str, paths: tuple[str, ...], arguments: dict[str, Any]) -> "tuple[Trace, Tables]":
    """Open in parts and analyse them on a Ray cluster."""
    from rich.console import Console

    from toolkit.analyses_in_parts import analyse_parts
    from toolkit.on_ray import RayTasks
    from toolkit.parts import open_parts
    from toolkit.trace_options import reading_from
    from toolkit.traces import Trace

    asked, reading = _asked(arguments), reading_from(arguments)
    executor = RayTasks(on)
    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    try:
        with console.status("counting") as status:
            parted = open_parts(paths, executor, reading)
            tables = analyse_parts(parted, executor, status.update, asked)
    finally:
        executor.close()
    click.echo(f"used {executor.spent.said()}", err=True)
    return Trace(parted.parts[0].read().frame, parted.info), tables


def _asked(arguments: dict[str, Any]) -> "Asked":
    """The analyses that run on request only, taken out of the command's `arguments`."""
    groups, by, drift = (arguments.pop(name) for name in ("groups", "groups_by", "drift"))
    asked: dict[str, dict[str, Any]] = {}
    if groups or by:
        asked["groups"] = {"by": by or "model"}
    if drift:
        asked |= {"drift": {}, "clients": {}}
    return asked
