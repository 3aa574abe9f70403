"""`trace convert`: any trace in, canonical Parquet, another tool's format or a run folder out."""

from pathlib import Path
from typing import Any

import click

from toolkit.trace_options import open_trace, trace_options


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... OUT")
@trace_options
@click.option("--run", "as_run", is_flag=True, help="Write the latencies the source measured as a run folder OUT.")
@click.option("--as", "kind", type=click.Choice(["mooncake"]), help="Write another tool's format instead.")
@click.option("--json", "as_json", is_flag=True, help="Print what was read as JSON.")
def convert(paths: tuple[str, ...], as_run: bool, kind: str | None, as_json: bool, **arguments: Any) -> None:
    """Convert traces to canonical Parquet or Mooncake JSONL, or another tool's results to a run.

    \b
    trace convert requests.csv.gz --map arrival_s=ts,prompt_tokens=in requests.parquet
    trace convert requests.parquet --as mooncake requests.jsonl
    """
    from workloads.conversion import check_target, statement, to_json, write

    if len(paths) < 2:
        raise click.UsageError("name what to read and, last, what to write: trace convert IN... OUT.parquet")
    if as_run and kind:
        raise click.UsageError("a run is written by --run, another format by --as; give one of them")
    *sources, target = paths
    check_target(Path(target), as_run=as_run, kind=kind)
    trace = open_trace(sources, arguments)
    if not as_json:
        click.echo(statement(trace.info))
    written, notes = write(trace, Path(target), as_run=as_run, kind=kind)
    if as_json:
        click.echo(to_json(trace.info, Path(target), written, notes))
        return
    for note in notes:
        click.echo(f"note     {note}")
    click.echo(f"wrote {written:,} bytes to {target}")
