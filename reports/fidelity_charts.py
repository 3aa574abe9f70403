"""The section on how right a simulation is: its rows as text, and requests as simulated against as measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports import words
from reports.fidelity import CLOSE, METRICS, Pair
from reports.figures import WIDE, axis, band, figure, line, plain
from reports.measured import Measured
from reports.page import Chart
from reports.run_tables import NAMES
from reports.words import TITLES, Unit, named, unit_for

BINS, FEWEST = 24, 3  # bins of equal width in the logarithm; requests a point needs
SPREAD = (0.1, 0.5, 0.9)


def charts(runs: Sequence[Measured], found: Sequence[Pair]) -> list[Chart]:
    """A chart a metric that was measured."""
    return [_chart(runs, found, m) for m in METRICS if any(len(pair.values(m)[0]) > FEWEST for pair in found)]


def _chart(runs: Sequence[Measured], found: Sequence[Pair], metric: str) -> Chart:
    unit = unit_for(metric, found[0].values(metric)[0].tolist())
    tables = [(pair.simulated, runs[pair.simulated].label, binned(pair, metric)) for pair in found]
    base = runs[found[0].measured].label
    return Chart(
        name=f"fidelity-{metric}",
        title=f"Simulated {named(metric)} of requests against that measured in {base}, both axes logarithmic",
        note="On the diagonal a simulation is right. Lines: the median of requests that were measured alike; shaded: "
        "P10 to P90 of them.",
        figure=_figure([each for each in tables if each[2].height], unit, TITLES[metric]),
        data=pl.concat([table.select(pl.lit(label).alias("run"), pl.all()) for _, label, table in tables]),
        height=400,
        tab=TITLES[metric],
    )


def binned(pair: Pair, metric: str) -> pl.DataFrame:
    """Requests by what was measured of them: how many, the middle, and quantiles of what was simulated."""
    measured, simulated = pair.values(metric)
    above = (measured > 0) & (simulated > 0)
    frame = pl.DataFrame({"measured": measured[above], "simulated": simulated[above]})
    logs = np.log10(frame["measured"].to_numpy())
    edges = np.linspace(logs.min(initial=0.0), logs.max(initial=1.0), BINS + 1)
    place = np.clip(np.searchsorted(edges, logs, side="right") - 1, 0, BINS - 1)
    quantiles = [pl.col("simulated").quantile(q, "linear").alias(f"p{q * 100:g}") for q in SPREAD]
    bins = frame.group_by(place=pl.Series(place), maintain_order=False)
    rows = bins.agg(pl.len().alias("requests"), pl.col("measured").median(), *quantiles).sort("place")
    return rows.filter(pl.col("requests") >= FEWEST).drop("place")


def _figure(tables: Sequence[tuple[int, str, pl.DataFrame]], unit: Unit, title: str) -> go.Figure:
    traces: list[Any] = []
    for index, label, table in tables:
        x, low, middle, high = (table[c].to_numpy() * unit.factor for c in ("measured", "p10", "p50", "p90"))
        hover = f"{plain(label)}<br>measured %{{x:.3~g}}, simulated %{{y:.3~g}} {unit.name}<extra></extra>"
        style = {"color": line(index)["color"], "size": 5}
        traces.append(band(x, low, high, index))
        traces.append(
            go.Scatter(x=x, y=middle, mode="lines+markers", line=line(index), marker=style, hovertemplate=hover)
        )
    known = np.concatenate([table["measured"].to_numpy() for _, _, table in tables]) * unit.factor
    ends = [float(known.min()), float(known.max())] if len(known) else [1.0, 1.0]
    diagonal = {"color": "var(--muted)", "width": 1, "dash": "4px,3px"}
    traces.append(go.Scatter(x=ends, y=ends, mode="lines", line=diagonal, hoverinfo="skip"))
    step = 1 if ends[1] > ends[0] * 10**WIDE else "D2"
    axes = [axis(f"{what} {title} ({unit.name})", type="log", dtick=step) for what in ("Measured", "Simulated")]
    return figure(traces, xaxis=axes[0], yaxis=axes[1])


def tables(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A table a simulated run, as text."""
    return [_table(run) for run in found["runs"]] if found else []


def _table(run: dict[str, Any]) -> dict[str, Any]:
    metrics = [m for m in METRICS if m in run["each"]]
    return {
        "name": run["name"],
        "requests": words.whole(run["requests"]),
        "left_out": words.whole(run["left_out"]) if run["left_out"] else "",
        "close": words.percent(CLOSE),
        "rows": [_metric(run, metric) for metric in metrics],
    }


def _metric(run: dict[str, Any], metric: str) -> dict[str, Any]:
    rows = [r for r in run["errors"] if r["metric"] == metric]
    unit, each = unit_for(metric, [r["measured"] for r in rows]), run["each"][metric]
    return {
        "title": TITLES[metric],
        "unit": unit.name,
        "cells": [_cell(row, unit) for row in rows],
        "each": {name: words.percent(each[name]) for name in ("mean", "p50", "p90", "close")},
        "apart": unit.spell(each["mean_s"]),
    }


def _cell(row: dict[str, Any], unit: Unit) -> dict[str, str]:
    low, high = (words.percent(row[k], signed=True) for k in ("low", "high"))
    return {
        "name": NAMES[row["statistic"]],
        "error": words.percent(row["error"], signed=True),
        "interval": "" if words.DASH in (low, high) else f"{low} … {high}",
        "span": f"{unit.show(row['measured'])} → {unit.show(row['simulated'])}",
    }
