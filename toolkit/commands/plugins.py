"""`trace plugins`: everything that can be replaced, and where it comes from."""

from typing import TYPE_CHECKING, Any

import click

from toolkit.errors import printable

if TYPE_CHECKING:
    from toolkit.plugins import Plugin


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """List loaders, schedulers, analyses and everything else that can be replaced.

    Example: trace plugins --json
    """
    import orjson

    tables = listing()
    if as_json:
        click.echo(orjson.dumps(tables, option=orjson.OPT_INDENT_2, default=str))
    else:
        _print(tables)


def listing() -> dict[str, list[dict[str, Any]]]:
    """Every kind (in the plural) with its plugins."""
    from toolkit.plugins import BUILTIN, plugins, plural

    return {plural(kind): [describe(entry) for entry in plugins(kind).values()] for kind in BUILTIN}


def describe(entry: "Plugin") -> dict[str, Any]:
    """Name, summary, parameters and origin; a plugin that fails to import says why instead of its summary."""
    from toolkit.plugins import parameters, summary

    about: dict[str, Any] = {"name": entry.name, "summary": None, "parameters": {}, "origin": entry.origin}
    try:
        made = entry.load()
    except Exception as error:  # a third party's code may raise anything; the list must survive it
        return about | {"error": f"{type(error).__name__}: {error}"}
    # A function's arguments are its caller's, only a class is made with settings.
    return about | {"summary": summary(made), "parameters": parameters(made) if isinstance(made, type) else {}}


def _print(tables: dict[str, list[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for kind, entries in tables.items():
        table = Table(box=None, padding=(0, 2, 0, 0), title=Text(kind, "bold"), title_justify="left", show_header=False)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for entry in entries:
            table.add_row(Text(printable(entry["name"])), _words(entry))
        if entries:
            console.print(table)


def _words(entry: dict[str, Any]) -> Any:
    from rich.text import Text

    if "error" in entry:
        return Text(f"cannot be loaded: {printable(entry['error'])}", "red")
    words = Text(printable(entry["summary"]))
    settings = ", ".join(f"{name}={value['default']}" for name, value in entry["parameters"].items())
    words.append(f" [{settings}]" if settings else "", "dim")
    return words.append("" if entry["origin"] == "built-in" else f" ({printable(entry['origin'])})", "dim")
