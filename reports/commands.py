"""`trace report`: runs in, one HTML page or its numbers out."""

from pathlib import Path

import click

from toolkit.finite_option import Finite


@click.command(epilog="Example: trace report RUNS/fcfs RUNS/srpt --out report.html --slo-ttft 2")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page.  [default: report.html]")
@click.option("--slo-ttft", "ttft_s", type=Finite(min=0, min_open=True), metavar="S", help="TTFT objective.")
@click.option("--slo-tpot", "tpot_s", type=Finite(min=0, min_open=True), metavar="S", help="TPOT objective.")
@click.option("--slo-e2e", "e2e_s", type=Finite(min=0, min_open=True), metavar="S", help="E2E objective.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers; write a page only if --out is given.")
def report(
    runs: tuple[Path, ...],
    out: Path | None,
    ttft_s: float | None,
    tpot_s: float | None,
    e2e_s: float | None,
    as_json: bool,
) -> None:
    """Tail-latency page of one run, or of several compared with the first."""
    from reports.attainment import Objectives
    from reports.page import bundle_soon
    from reports.run_page import compute, draw
    from toolkit.runs import find_runs

    target = out or Path("report.html")
    if out is not None or not as_json:
        _keep_what_is_no_page(target)
    if as_json and out is None:
        click.echo(_json(compute(find_runs(runs), Objectives(ttft_s, tpot_s, e2e_s)).to_dict()))
        return
    found = find_runs(runs)
    bundle = bundle_soon()
    computed = compute(found, Objectives(ttft_s, tpot_s, e2e_s))
    _write(target, draw(computed, bundle))
    click.echo(_json(computed.to_dict()) if as_json else f"{target}: {len(found)} run{'s' if len(found) > 1 else ''}")


def _json(numbers: object) -> str:
    import orjson

    return orjson.dumps(numbers, option=orjson.OPT_INDENT_2).decode()


def _keep_what_is_no_page(target: Path) -> None:
    """Refuse to write over a file that is no page, such as a trace."""
    from toolkit.errors import SettingFailure

    if target.is_file() and target.stat().st_size:
        with target.open("rb") as file:
            page = file.read(64).lstrip().lower().startswith(b"<!doctype html")
        if not page:
            raise SettingFailure("is there already and is no page", where=str(target), hint="choose another --out")


def _write(target: Path, page: str) -> None:
    """Write the page; it appears whole or not at all."""
    from toolkit.results import whole_file

    with whole_file(target) as file:
        file.write(page.encode())
