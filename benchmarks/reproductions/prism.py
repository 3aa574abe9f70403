"""`make reproduce-prism`: Prism (2505.04021) and what it was compared with, replayed and written below docs/papers/.

python -m benchmarks.reproductions.prism [--arena real_trace.pkl] [--work FOLDER] [--out FOLDER] [--quick]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, StrictUndefined

from benchmarks.reproductions import prism_arbitration
from benchmarks.reproductions.drawing import Line, lines, write
from benchmarks.reproductions.prism_claims import PRISM, claims
from benchmarks.reproductions.prism_runs import results
from benchmarks.reproductions.prism_studies import STUDIES
from benchmarks.reproductions.prism_tables import attainments, estimates, figure, moves
from benchmarks.reproductions.tables import markdown
from toolkit.runs import versions

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("prism_page.md.j2")
AXES = {
    "eight-models": ("load", "load", "load (times the trace's)"),
    "objectives": ("slo_scale_ttft", "scale", "scale of the objectives"),
    "eighteen-models": ("gpus", "GPUs", "GPUs"),
    "fifty-eight-models": ("gpus", "GPUs", "GPUs"),
}


def page(tables: dict[str, pl.DataFrame], arbitration: list[dict[str, Any]], command: str) -> str:
    """The whole page; its words are in prism_page.md.j2."""
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    by_axis = {name: attainments(tables[name], *AXES[name][:2]) for name in AXES if name in tables}
    seeds = max(t["seed"].n_unique() for t in tables.values())
    return template.render(
        claims=markdown(claims(tables, arbitration)),
        two_models=markdown(moves(tables["two-models"])),
        many_models=markdown(by_axis["fifty-eight-models"]),
        **{key: _shown(by_axis, name) for key, name in _NAMES.items()},
        idle=markdown(moves(tables["idle-threshold"])),
        window=markdown(moves(tables["window"])),
        tau=markdown(moves(tables["tau"])),
        contention=_contention(tables),
        arbitration=markdown(arbitration),
        regimes="\n\n".join(_regimes(tables)),
        churn=markdown(moves(tables["churn"])),
        command=command,
        trial="QUICK" in command,
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
        seeds=f"{seeds} seeds" if seeds > 1 else "one seed",
        strict=prism_arbitration.STRICT,
        lax=prism_arbitration.LAX,
    )


_NAMES = {"eight_models": "eight-models", "objectives": "objectives", "eighteen_models": "eighteen-models"}


def _shown(tables: dict[str, list[dict[str, Any]]], name: str) -> str:
    return markdown(tables[name]) if name in tables else ""


def _contention(tables: dict[str, pl.DataFrame]) -> str:
    """TTFT / TPOT attainment by policy and contention; nothing where the Arena trace was not replayed."""
    found = [rows.with_columns(at=pl.lit(float(n[11:]))) for n, rows in tables.items() if n.startswith("contention-")]
    return markdown(attainments(pl.concat(found), "at", "contention")) if found else ""


def _regimes(tables: dict[str, pl.DataFrame]) -> list[str]:
    found = [name for name in tables if name.startswith("regime-")]
    return [f"{n.removeprefix('regime-')} models:\n\n{markdown(attainments(tables[n], 'load', 'load'))}" for n in found]


def figures(tables: dict[str, pl.DataFrame]) -> dict[str, str]:
    """SVG by name."""
    made = {n: figure(tables[n], AXES[n][0], n.replace("-", " "), AXES[n][2]) for n in AXES if n in tables}
    idle = tables["idle-threshold"].filter(pl.col("scheduler") == "moore-hodgson")
    idle = idle.with_columns(
        idle_s=pl.col("placement").str.extract(r"idle_s=([\d.]+)").cast(pl.Float64), placement=pl.lit("prism")
    )
    made["idle-threshold"] = figure(idle, "idle_s", "Prism's idle threshold", "idle threshold (s)", log_x=True)
    return made | {"regime": _regime_figure(tables)}


def _regime_figure(tables: dict[str, pl.DataFrame]) -> str:
    """What Prism gains over MuxServe++ by the number of models, a line a load."""
    gains: dict[float, dict[int, float]] = {}
    for name, rows in tables.items():
        if name.startswith("regime-"):
            found = estimates(rows, "load", "attainment_ttft")
            for at, prism in found[PRISM].items():
                other = found["muxserve++"][at].mean
                gains.setdefault(at, {})[int(name.removeprefix("regime-"))] = 100 * (prism.mean - other)
    series = [Line(f"load {at:g}", sorted(g), [g[n] for n in sorted(g)]) for at, g in sorted(gains.items())]
    return lines("Prism less MuxServe++", "models on two GPUs", "points of TTFT attainment", series)


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay everything, and write the page and its figures."""
    parser = argparse.ArgumentParser(description="Reproduce Prism.")
    parser.add_argument("--arena", type=Path, help="prism-research's real_trace.pkl; without it, generated traces only")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "reproduce-prism")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "papers")
    parser.add_argument("--quick", action="store_true", help="few seeds and points: a trial")
    given = parser.parse_args(arguments)
    tables = {}
    for study in STUDIES:
        rows = results(study, given.work, given.arena, quick=given.quick)
        if rows is not None:
            tables[study.name] = rows
            print(f"{study.name}: {len(rows)} replays", flush=True)
    arbitration = prism_arbitration.table(given.work, range(2 if given.quick else 5))
    for name, svg in figures(tables).items():
        write(given.out / "figures" / f"prism-{name}.svg", svg)
    command = "make reproduce-prism" + (" QUICK=--quick" if given.quick else "")
    (given.out / "prism.md").write_text(page(tables, arbitration, command))
    print(f"wrote {given.out / 'prism.md'}")


if __name__ == "__main__":
    main()
