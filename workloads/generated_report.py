"""What was generated, for people and as JSON."""

from pathlib import Path

import click
import orjson
import polars as pl

from toolkit.readable import number, seconds
from toolkit.results import whole_file
from toolkit.traces import footer
from workloads.closeness import Measure, lines, to_json
from workloads.generate import Generated


def write_truth(made: Generated, path: Path) -> None:
    """Write the planted truth; the trace's info is in the footer, which says what it belongs to."""
    with whole_file(path) as file:
        made.truth.write_parquet(file, compression="zstd", metadata=footer(made.info))


def show(made: Generated, out: Path, truth: Path | None, near: list[Measure] | None, *, as_json: bool) -> None:
    """Print what was written, and for a likeness how `near` it came."""
    planted = counted(made.truth)
    if as_json:
        facts = {"trace": made.info.to_dict(), "out": str(out), "bytes": made.written_bytes, "planted": planted}
        facts |= {"closeness": to_json(near)} if near is not None else {}
        click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        return
    info = made.info
    rate = f", {number(info.rows_kept / info.span_s)} requests/s" if info.span_s else ""
    click.echo(f"{info.name}: {info.rows_kept:,} requests over {seconds(info.span_s)}{rate}")
    click.echo("planted: " + ", ".join(f"{count:,} {what}" for what, count in planted.items()))
    for note in made.info.notes[1:]:
        click.echo(f"note: {note}")
    if near is not None:
        click.echo(lines(near))
    click.echo(f"wrote {made.written_bytes:,} bytes to {out}" + (f", the truth to {truth}" if truth else ""))


def counted(truth: pl.DataFrame) -> dict[str, int]:
    """Rows of truth by what they tell."""
    return dict(truth.group_by("what", maintain_order=True).len().iter_rows())
