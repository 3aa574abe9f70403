"""The charts of a sweep: attainment, and capacity, of each policy against whatever was varied."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports.figures import axis, band, colour, figure, line, plain
from reports.measured import clipped
from reports.page import Chart
from reports.words import number, percent

NUMBERS = ("gpus", "load", "slo_scale_ttft", "slo_scale_tpot")
TITLES = {"gpus": "GPUs", "load": "Load (×)", "slo_scale_ttft": "TTFT", "slo_scale_tpot": "TPOT"}
TABS = 12  # combinations of what a chart holds fixed; the others are in the data
WIDE = 8.0  # largest over smallest, from which on an axis is logarithmic


@dataclass(frozen=True)
class Policy:
    """A placement with a scheduler: one line of every chart."""

    placement: str
    scheduler: str
    label: str
    colour: str


def policies(rows: pl.DataFrame) -> list[Policy]:
    """Those of `rows` in their order, named by what tells them apart."""
    pairs = rows.select("placement", "scheduler").unique(maintain_order=True).rows()
    one_placement, one_scheduler = (len({p[i] for p in pairs}) == 1 for i in (0, 1))
    found = []
    for number_, (placement, scheduler) in enumerate(pairs):
        both = f"{placement}, {scheduler}"
        label = both if one_placement == one_scheduler else scheduler if one_placement else placement
        found.append(Policy(placement, scheduler, clipped(label, 60), colour(number_)))
    return found


def of(rows: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    return rows.filter((pl.col("placement") == policy.placement) & (pl.col("scheduler") == policy.scheduler))


def scale_axes(rows: pl.DataFrame) -> tuple[str, str | None]:
    """(The objective scale that a chart runs over, the one that it holds fixed): None where it follows the first."""
    x, other = "slo_scale_ttft", "slo_scale_tpot"
    if rows[x].n_unique() == 1:
        x, other = other, x
    follows = bool((rows.group_by(x).agg(pl.col(other).n_unique())[other] <= 1).all())
    return x, None if follows else other


def attainment_charts(
    rows: pl.DataFrame, who: list[Policy], x: str, fixed: Sequence[str], column: str, wanted: float | None
) -> list[Chart]:
    """A chart for each combination of `fixed` that has several values of `x`; `rows` are means over seeds."""
    known = rows.filter(pl.col(column).is_not_null())
    varied = [name for name in fixed if rows[name].n_unique() > 1]
    parts = known.partition_by(varied, maintain_order=True) if varied else [known]
    several = [part for part in parts if part[x].n_unique() > 1]
    best = sorted(range(len(several)), key=lambda i: -len(several[i]))[:TABS]
    return [_attainment(several[i], x, varied, column, wanted, who, f"{x}-{i}") for i in sorted(best)]


def _attainment(
    rows: pl.DataFrame, x: str, varied: list[str], column: str, wanted: float | None, who: list[Policy], name: str
) -> Chart:
    traces = [t for i, policy in enumerate(who) for t in _line(of(rows, policy).sort(x), x, column, i, policy)]
    low = float(rows.select(pl.min_horizontal(column, f"{column}_low").min()).item())
    floor = max(-0.02, low - 0.08 * (1 - low) - 0.005)
    y = axis("Attainment", tickformat=".3~%", range=[floor, 1 + 0.03 * (1 - floor)])
    drawn = figure(traces, xaxis=_x_axis(rows, x), yaxis=y, hovermode="closest")
    if wanted is not None:
        drawn.add_hline(y=wanted, line={"color": "var(--miss)", "width": 1.5, "dash": "dash"})
    title = f"Attainment against {_title(x)}"
    tab = said(rows.row(0, named=True), varied)
    return Chart(name, title, _note(rows, x, column, who, tab), drawn, rows, 380, tab)


def _line(rows: pl.DataFrame, x: str, column: str, index: int, policy: Policy) -> list[Any]:
    if rows.is_empty():
        return []
    at = rows[x].cast(pl.Float64).to_numpy()
    y, low, high = (
        rows[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in (column, f"{column}_low", f"{column}_high")
    )
    name = plain(policy.label, 60)
    text = [
        f"{name}<br>{percent(row[column])} ({percent(row[f'{column}_low'])} to {percent(row[f'{column}_high'])})"
        f"<br>TTFT {percent(row['attainment_ttft'])}, TPOT {percent(row['attainment_tpot'])}"
        f"<br>ρ {number(row['utilisation'])}"
        for row in rows.iter_rows(named=True)
    ]
    mark = {"color": colour(index), "size": 7, "line": {"color": "var(--paper)", "width": 1.5}}
    hover = "%{text}<extra></extra>"
    scatter = go.Scatter(x=at, y=y, mode="lines+markers", line=line(index), marker=mark, text=text, hovertemplate=hover)
    return [band(at, low, high, index), scatter]


def _x_axis(rows: pl.DataFrame, x: str) -> dict[str, Any]:
    values = rows[x].cast(pl.Float64).unique().sort().to_list()
    wide = values[-1] / values[0] > WIDE
    few = {"tickvals": values, "ticktext": [f"{v:.3g}" for v in values]} if len(values) <= 8 else {}
    return axis(_title(x), type="log" if wide else "linear", **few)


def _title(x: str) -> str:
    return f"SLO scale ({TITLES[x]}, ×)" if x.startswith("slo") else TITLES[x]


def said(row: dict[str, Any], names: Sequence[str]) -> str:
    """What a row's axes are: `4 GPUs, load 2, SLO × 5 / 2`."""
    parts = []
    if "gpus" in names and row["gpus"] is not None:
        parts.append(f"{row['gpus']} GPU{'s' if row['gpus'] != 1 else ''}")
    if "load" in names and row["load"] is not None:
        parts.append(f"load {row['load']:.4g}")
    if {"slo_scale_ttft", "slo_scale_tpot"} & set(names) and row["slo_scale_ttft"] is not None:
        parts.append(f"SLO × {scales(row)}")
    return ", ".join(parts)


def scales(row: dict[str, Any]) -> str:
    """The scale of the objectives, one number where it is the same for both."""
    ttft, tpot = row["slo_scale_ttft"], row["slo_scale_tpot"]
    if ttft is None:
        return "–"
    return f"{ttft:.4g}" if ttft == tpot else f"{ttft:.4g} / {tpot:.4g}"


def _note(rows: pl.DataFrame, x: str, column: str, who: list[Policy], tab: str) -> str:
    """Best and worst where they lie furthest apart, or where all are worst."""
    value = pl.col(column)
    ends = rows.group_by(x, maintain_order=True).agg(spread=(value.max() - value.min()).round(6), low=value.min())
    at = ends.sort("spread", "low", descending=[True, False], maintain_order=True)[x][0]
    here = rows.filter(pl.col(x) == at).sort(column, descending=True, maintain_order=True)
    best, worst = here.row(0, named=True), here.row(-1, named=True)
    names = {(p.placement, p.scheduler): p.label for p in who}
    told = f"{names[best['placement'], best['scheduler']]} {percent(best[column])}"
    if worst[column] < best[column]:
        told += f", {names[worst['placement'], worst['scheduler']]} {percent(worst[column])}"
    elif len(here) > 1:
        told = f"every policy {percent(best[column])}"
    return f"{f'{tab}; ' if tab else ''}at {said(best, [x])}: {told}. Bands are 95 % intervals."


def capacity_charts(found: pl.DataFrame, who: list[Policy]) -> list[Chart]:
    """Capacity against the axis that was given several values, where one was."""
    over = found["over"][0]
    x = "load" if over == "gpus" else "gpus"
    varied = [n for n in ("slo_scale_ttft", "slo_scale_tpot") if found[n].n_unique() > 1]
    parts = found.partition_by(varied, maintain_order=True) if varied else [found]
    return [
        _capacity(part, x, over, who, varied, f"capacity-{i}")
        for i, part in enumerate(parts)
        if part[x].n_unique() > 1 and part["capacity"].is_not_null().any()
    ][:TABS]


def _capacity(rows: pl.DataFrame, x: str, over: str, who: list[Policy], varied: list[str], name: str) -> Chart:
    known = rows.filter(pl.col("capacity").is_not_null())
    traces = [t for i, p in enumerate(who) for t in _capacity_line(of(known, p).sort(x), x, i, p)]
    what = "Fewest GPUs" if over == "gpus" else "Highest load"
    drawn = figure(traces, xaxis=_x_axis(rows, x), yaxis=axis(what, rangemode="tozero"), hovermode="closest")
    gap = " Where a line has a gap, nothing that was allowed is enough." if len(known) < len(rows) else ""
    note = f"{what} at which attainment is high enough; bands are 95 % intervals.{gap}"
    return Chart(name, f"{what} against {TITLES[x]}", note, drawn, rows, 340, said(rows.row(0, named=True), varied))


def _capacity_line(rows: pl.DataFrame, x: str, index: int, policy: Policy) -> list[Any]:
    at, y, low, high = (
        rows[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in (x, "capacity", "capacity_low", "capacity_high")
    )
    hover = f"{plain(policy.label, 60)}<br>%{{y:.3~g}}<extra></extra>"
    mark = {"color": colour(index), "size": 7}
    return [
        band(at, low, high, index),
        go.Scatter(x=at, y=y, mode="lines+markers", line=line(index), marker=mark, hovertemplate=hover),
    ]
