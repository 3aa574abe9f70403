"""`trace datasets`: the public traces of the field."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workloads.fetching import Progress

CATALOGUE = click.option(
    "--catalogue", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Another catalogue."
)
LICENCE_WIDE = 12
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def datasets() -> None:
    """List, describe and fetch public traces.

    Example: trace datasets fetch azure-llm-2023-conv --out traces/
    """


@datasets.command("list")
@CATALOGUE
@JSON
def list_all(catalogue: Path | None, as_json: bool) -> None:
    """List the catalogue: name, licence, size, format, title."""
    from workloads.catalogue import read_catalogue

    entries = read_catalogue(catalogue)
    if as_json:
        _dump({name: vars(entry) for name, entry in entries.items()})
        return
    wide = max((len(name) for name in entries), default=0)
    for name, entry in entries.items():
        size = "–" if entry.bytes is None else f"{entry.bytes / 1e6:,.1f} MB"
        licence = printable(entry.licence.partition(" (")[0])
        licence = licence if len(licence) <= LICENCE_WIDE else licence[: LICENCE_WIDE - 1] + "…"
        click.echo(
            f"{name:<{wide}}  {licence:<{LICENCE_WIDE}}  {size:>8}  {entry.format or '–':<16}  {printable(entry.title)}"
        )


@datasets.command()
@click.argument("name")
@CATALOGUE
@JSON
def show(name: str, catalogue: Path | None, as_json: bool) -> None:
    """Say where a data set is, its licence, size, checksum, format and caveats."""
    from workloads.catalogue import dataset, read_catalogue

    entry = dataset(name, read_catalogue(catalogue))
    if as_json:
        _dump(vars(entry))
        return
    facts = {
        "title": entry.title,
        "page": entry.page,
        "licence": entry.licence,
        "format": entry.format or "no loader reads it",
        "rows": "unknown" if entry.rows is None else f"{entry.rows:,}",
        "span": entry.span or "unknown",
        "cite": entry.cite or "unknown",
        "get it": entry.how or f"trace datasets fetch {name}",
    }
    for word, text in facts.items():
        click.echo(f"{word:<8} {printable(text)}")
    for file in entry.files:
        click.echo(f"file     {printable(file.url)}")
        click.echo(f"         {_known(file.bytes)} bytes, sha256 {file.sha256 or 'unknown'}")
    for caveat in entry.caveats:
        click.echo(f"caveat   {printable(caveat)}")


@datasets.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Default: a folder NAME.")
@CATALOGUE
def fetch(name: str, out: Path | None, catalogue: Path | None) -> None:
    """Download a data set's files, going on where a download broke off, and check them."""
    from toolkit.errors import InputFailure
    from workloads.catalogue import dataset, read_catalogue
    from workloads.fetching import fetch as download

    entry = dataset(name, read_catalogue(catalogue))
    if entry.how is not None:
        raise InputFailure("has no single file to fetch", where=name, hint=f"{entry.how} ({entry.page})")
    for file in entry.files:
        with _bar(file.name) as progress:
            path, digest = download(file, out or Path(name), progress)
        known = "as published" if file.sha256 else "the catalogue knows no checksum to compare it with"
        click.echo(f"{path}: {path.stat().st_size:,} bytes, sha256 {digest} ({known})")
    click.echo(f"licence: {entry.licence}" + (f"; please cite {entry.cite}" if entry.cite else ""))


@contextmanager
def _bar(name: str) -> "Iterator[Progress | None]":
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(name), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _known(size: int | None) -> str:
    return "unknown" if size is None else f"{size:,}"


def _dump(value: Any) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
