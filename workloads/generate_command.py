"""`trace generate`: traces with a known truth."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.on_option import on_option

if TYPE_CHECKING:
    from workloads.closeness import Measure
    from workloads.generate import Generated
    from workloads.generate_spec import Workload


@click.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path, dir_okay=False), metavar="[SPEC.yaml]")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="T.parquet")
@click.option("--parts", is_flag=True, help="Write a folder of parts, each a stretch of time.")
@click.option(
    "--truth", type=click.Path(path_type=Path, dir_okay=False), metavar="T.parquet", help="Also write what was planted."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option("--like", metavar="TRACE", help="Fit this trace instead of reading a specification.")
@click.option("--span", "span_s", type=float, metavar="S", help="Length of the trace, instead of the given one.")
@click.option("--load", type=float, metavar="X", help="With --like: times the trace's rate.")
@click.option("--models", type=click.IntRange(min=1), metavar="N", help="With --like: so many models.")
@on_option
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def generate(
    spec: Path | None,
    out: Path,
    parts: bool,
    truth: Path | None,
    seed: int,
    like: str | None,
    on: str,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Generate a trace and the truth planted in it, or more of a given trace.

    \b
    trace generate workload.yaml --out t.parquet --truth truth.parquet --seed 7
    trace generate --like requests.csv --span 86400 --load 2 --out more.parquet
    trace generate workload.yaml --parts --on ray --out trace/
    """
    from workloads.conversion import check_target
    from workloads.generated_report import show, write_truth

    if (spec is None) == (like is None):
        raise click.UsageError("give either SPEC.yaml or --like TRACE")
    if on != "local" and not parts:
        raise click.UsageError("--on writes a folder of parts; say --parts, and name a folder with --out")
    if truth is not None and truth.resolve() == out.resolve():
        raise click.UsageError("--truth would take the place of the trace; give it a name of its own")
    for target in filter(None, (None if parts else out, truth)):
        check_target(target, as_run=False)
    workload = _from_spec(spec, **arguments) if spec is not None else _like(str(like), **arguments)
    made = _generate(workload, out, seed, on if parts else None)
    if truth is not None:
        write_truth(made, truth)
    show(made, out, truth, _closeness(like, out, arguments["load"]) if like else None, as_json=as_json)


def _from_spec(spec: Path, *, span_s: float | None, load: float | None, models: int | None) -> "Workload":
    from workloads.generate_spec import read_spec

    if load is not None or models is not None:
        raise click.UsageError("--load and --models are for --like; a specification says its own")
    return read_spec(spec, span_s)


def _like(trace: str, *, span_s: float | None, load: float | None, models: int | None) -> "Workload":
    from workloads.like import likeness

    return likeness(trace, span_s=span_s, load=1.0 if load is None else load, models=models)


def _closeness(like: str, out: Path, load: float | None) -> "list[Measure]":
    from toolkit.traces import read_trace
    from workloads.closeness import compare

    return compare(read_trace([like]).frame, read_trace([out]).frame, load or 1.0)


def _generate(workload: "Workload", out: Path, seed: int, parts_on: str | None) -> "Generated":
    """Generate, in parts where `parts_on` says where, with a bar where stderr is a terminal."""
    import sys

    run = _runner(parts_on)
    if not sys.stderr.isatty():
        return run(workload, out, seed)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.fields[requests]:,} requests"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("generating", total=workload.settings.span_s, requests=0)
        return run(workload, out, seed, lambda done_s, n: bars.update(task, completed=done_s, requests=n))


def _runner(parts_on: str | None) -> "Callable[..., Generated]":
    if parts_on is None:
        from workloads.generate import generate

        return generate
    if parts_on == "local":
        from workloads.generate_parts import generate_parts

        return generate_parts
    from workloads.generate_on_ray import generate_on_ray

    return partial(generate_on_ray, parts_on)
