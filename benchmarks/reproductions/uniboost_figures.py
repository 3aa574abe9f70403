"""Figures of UniBoost's reproduction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.reproductions.drawing import Bars, Line, bars, lines, write
from benchmarks.reproductions.tables import Estimate
from benchmarks.reproductions.uniboost_tables import estimate, policies

SHOWN = ("FCFS", "TRAIL+", "MLFQ+", "DistBoost", "UniBoost base", "UniBoost MemGuard", "UniBoost γ-Ada slope")
TIMES = {"ttlt": "TTLT", "ttft": "TTFT"}
LEAST_S = 1e-3  # where a band ends on a logarithmic axis


def draw_all(found: pl.DataFrame, folder: Path) -> int:
    """Write every figure, named as the page's template expects; returns how many."""
    drawn: dict[str, str] = {}
    for key, cell in found.filter(part="loads").group_by("workload", "engine", maintain_order=True):
        drawn |= {f"{kind}-{key[0]}-{key[1]}": _over_loads(cell, kind, f"{key[0]}, {key[1]}") for kind in TIMES}
    for (workload,), cell in found.filter(part="gamma").group_by("workload", maintain_order=True):
        drawn[f"gamma-{workload}"] = _sweep(cell)
    drawn["wrong"] = _wrong(found.filter(part="wrong"))
    for name, svg in drawn.items():
        write(folder / f"uniboost-{name}.svg", svg)
    return len(drawn)


def _over_loads(cell: pl.DataFrame, kind: str, where: str) -> str:
    rhos = cell["rho"].unique().sort().to_list()
    series = []
    for policy in SHOWN:
        found = [estimate(cell.filter(rho=rho), f"{kind}_p99", policy) for rho in rhos]
        series.append(_line(policy, rhos, found, dashed=policy == "FCFS"))
    return lines(f"P99 {TIMES[kind]}, {where}", "ρ", "seconds", series, log_y=True)


def _line(name: str, x: Sequence[float], found: list[Estimate], dashed: bool = False) -> Line:
    return Line(name, x, [one.mean for one in found], *_ends(found), dashed=dashed)


def _ends(found: list[Estimate]) -> tuple[list[float] | None, list[float] | None]:
    """The intervals' ends; none for a single seed."""
    if any(np.isnan(one.low) for one in found):
        return None, None
    return [max(one.low, LEAST_S) for one in found], [one.high for one in found]


def _sweep(cell: pl.DataFrame) -> str:
    factors = sorted({float(name.split()[1]) for name in policies(cell) if name.startswith("base")} - {np.inf})
    series = []
    for kind, said in TIMES.items():
        for phase in ("base", "guard"):
            found = [estimate(cell, f"{kind}_p99", f"{phase} {factor:g}") for factor in factors]
            series.append(_line(f"P99 {said}, {phase}", factors, found))
        fcfs = estimate(cell, f"{kind}_p99", "FCFS").mean
        series.append(Line(f"P99 {said}, FCFS", factors, [fcfs] * len(factors), dashed=True))
    title = f"γ of UniBoost, {cell['workload'][0]}, {cell['engine'][0]}, ρ = {cell['rho'][0]:g}"
    return lines(title, "γ over the root of the trace", "seconds", series, log_x=True, log_y=True)


def _wrong(found: pl.DataFrame) -> str:
    names = policies(found)
    series = []
    for (workload,), cell in found.group_by("workload", maintain_order=True):
        rows = [estimate(cell, "ttlt_p99", name) for name in names]
        series.append(Bars(f"P99 TTLT, {workload}", [one.mean for one in rows], *_ends(rows)))
    places = [str(place + 1) for place in range(len(names))]
    return bars("SRPT by what it believes, numbered as in the table; 1 is FCFS", places, "seconds", series, log_y=True)
