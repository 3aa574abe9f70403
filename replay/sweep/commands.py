"""`trace sweep`."""

import sys
from pathlib import Path

import click

from toolkit.on_option import on_option


@click.command(short_help="Replay under every combination of policies, GPUs, loads and objectives; search capacity.")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False), metavar="SWEEP.yaml")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes; as many as cores by default.")
@on_option
@click.option("--json", "as_json", is_flag=True, help="Print every row as JSON instead of the summary.")
def sweep(spec: Path, out: Path, workers: int | None, on: str, as_json: bool) -> None:
    """Replay a trace under every combination of placements, schedulers, GPUs, loads and objectives; search capacity.

    Again with the same specification and folder, it goes on where it was stopped.

    \b
    trace sweep sweep.yaml --out sweep/
    trace query "SELECT placement, gpus, attainment_ttft, attainment_tpot FROM sweep" --sweep sweep/
    """
    from replay.sweep.session import run
    from replay.sweep.summary import as_text, to_json

    if not run(spec, out, workers, on):
        command = f"trace sweep {spec} --out {out}" + (f" --on {on}" if on != "local" else "")
        click.echo(f"stopped; continue with: {command}", err=True)
        sys.exit(130)
    click.echo(to_json(out) if as_json else as_text(out))
