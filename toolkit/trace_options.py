"""The trace options that every command shares, and what opens a trace from them."""

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toolkit.errors import SettingFailure, nearest
from toolkit.finite_option import Finite

if TYPE_CHECKING:
    from toolkit.selection import Selection
    from toolkit.traces import Trace

Command = TypeVar("Command", bound=Callable[..., Any])

UNITS = ("s", "ms", "us", "ns", "datetime")
MOST_COPIES = 1_000_000  # of each request
MEASURED = ("sent_s", "start_s", "first_token_s", "finish_s", "cached_tokens", "error", "token_s")


def trace_options(command: Command) -> Command:
    """Add the options for reading a trace and for selecting from it; `open_trace` takes their values."""
    return reading_options(selection_options(command))


def reading_options(command: Command) -> Command:
    """Add --format, --map and --time-unit."""
    options = [
        click.option("--format", "trace_format", metavar="NAME", help="Format of the trace, instead of detecting it."),
        click.option(
            "--map", "columns", multiple=True, metavar="A=B,…", help="Read column A of a trace from column B."
        ),
        click.option("--time-unit", type=click.Choice(UNITS), help="Unit of the source's times."),
    ]
    return _decorated(command, options)


def selection_options(command: Command) -> Command:
    """Add the options behind Selection."""
    options = [
        click.option("--from", "from_s", type=float, metavar="S", help="Start at this second of the trace."),
        click.option("--to", "to_s", type=float, metavar="S", help="Stop before this second."),
        click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model; may be repeated."),
        click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="Only this tenant; may be repeated."),
        click.option("--sample", type=Finite(0, 1), help="Only this share of requests (whole sessions)."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N requests."),
        click.option("--speed", type=float, default=1.0, metavar="X", help="Divide every gap by this."),
        click.option("--scale-load", type=float, default=1.0, metavar="X", help="Multiply the number of requests."),
    ]
    return _decorated(command, options)


def open_trace(paths: Sequence[str | Path], arguments: dict[str, Any]) -> "Trace":
    """Read the trace at `paths` and select from it; takes its options out of a command's keyword `arguments`."""
    from toolkit.traces import read_trace

    selection = selection_from(arguments)
    trace = read_trace(
        list(paths),
        format=arguments.pop("trace_format", None),
        columns=column_map(arguments.pop("columns", ())),
        time_unit=arguments.pop("time_unit", None),
    )
    return selection.apply(trace)


def reading_from(arguments: dict[str, Any]) -> dict[str, Any]:
    """How a trace in parts is read, of a command's keyword arguments; SettingFailure where they also select from it."""
    if selection_from(arguments):
        hint = "write the selection to a file first (trace convert), or leave out --on"
        raise SettingFailure("reads the whole trace", where="--on", hint=hint)
    return {
        "format": arguments.pop("trace_format", None),
        "columns": column_map(arguments.pop("columns", ())),
        "time_unit": arguments.pop("time_unit", None),
    }


def selection_from(arguments: dict[str, Any]) -> "Selection":
    """Take Selection's fields out of a command's keyword arguments; a field that is absent keeps its default."""
    from toolkit.selection import Selection

    chosen = {name: arguments.pop(name) for name in Selection.__dataclass_fields__ if name in arguments}
    for name in ("from_s", "to_s", "speed", "scale_load"):
        _check_number(name, chosen.get(name))
    return Selection(**chosen)


def _check_number(name: str, value: float | None) -> None:
    from toolkit.selection import option

    where = option(name)
    if value is not None and not isfinite(value):
        raise SettingFailure(f"{value} is not a finite number", where=where)
    if value is not None and name in ("speed", "scale_load") and value <= 0:
        raise SettingFailure("must be above 0", where=where)
    if value is not None and name == "scale_load" and value > MOST_COPIES:
        raise SettingFailure(f"must be at most {MOST_COPIES:,}", where=where)


def column_map(texts: Sequence[str]) -> dict[str, str]:
    """Parse `canonical=source,…` into canonical column -> source column."""
    columns = {}
    for item in (i for text in texts for i in text.split(",")):
        name, equals, source = (part.strip() for part in item.partition("="))
        if not equals or not name or not source:
            raise SettingFailure(f"'{item}' is not COLUMN=SOURCE", where="--map", hint="write arrival_s=ts,model=name")
        if name not in mappable():
            raise SettingFailure(f"no column '{name}' in a trace", where="--map", hint=nearest(name, mappable()))
        columns[name] = source
    return columns


def mappable() -> tuple[str, ...]:
    """The canonical names that `--map` may bind: TRACE's columns and what a real run measured."""
    from toolkit.schema import TRACE

    return (*TRACE, *MEASURED)


def _decorated(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
