"""Charts along time, and the small multiples: each takes tables and gives a Plotly figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports.figures import axis, colour, figure, line, plain
from reports.measured import clipped
from reports.resampling import Floats
from reports.words import Unit

EVENT_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")
STATE_ROWS = (
    ("arrivals_per_s", "Arrivals per second", 1.0),
    ("queue", "Requests queued", 1.0),
    ("running", "Requests running", 1.0),
    ("kv_use", "KV cache in use (%)", 100.0),
)
GAP = 0.045
NAME_LENGTH = 80


def time_unit(span_s: float) -> Unit:
    """The unit of a time axis: readable numbers for a run of this length."""
    for size, name in ((172_800.0, "d"), (7_200.0, "h"), (240.0, "min")):
        if span_s >= size:
            return Unit(1 / {"d": 86_400, "h": 3_600, "min": 60}[name], name)
    return Unit(1.0, "s")


def over_time(
    runs: Sequence[tuple[int, str, pl.DataFrame]], marks: Sequence[tuple[int, pl.DataFrame]], unit: Unit, clock: Unit
) -> go.Figure:
    """Latency percentiles, arrivals, queue, running and KV use over one time axis, events as marks below."""
    rows = [("ttft", f"TTFT ({unit.name}): P99, and P50 thin"), ("e2e", f"E2E ({unit.name}): P99, and P50 thin")]
    known = [r for r in STATE_ROWS if any(table[r[0]].drop_nulls().len() for _, _, table in runs)]
    traces: list[go.Scatter] = []
    for row, (name, _) in enumerate(rows, start=1):
        for index, label, table in runs:
            traces += [_latency(index, label, table, f"{name}_{p}", unit, clock, row) for p in ("p50", "p99")]
    for row, (name, _, factor) in enumerate(known, start=len(rows) + 1):
        traces += [_state(index, label, table, name, factor, clock, row) for index, label, table in runs]
    titles = [title for _, title in rows] + [title for _, title, _ in known]
    events = [part for index, table in marks for part in _events(index, table, clock, len(titles) + 1)]
    if events:
        titles.append("Events (size: how many)")
    return stacked(traces + events, titles, clock, events=bool(events))


def _latency(index: int, label: str, table: pl.DataFrame, column: str, unit: Unit, clock: Unit, row: int) -> go.Scatter:
    high = column.endswith("p99")
    values = table[column].cast(pl.Float64).to_numpy() * unit.factor
    hover = f"{plain(label)} {'P99' if high else 'P50'}: %{{y:.3~g}} {unit.name}<extra></extra>"
    return _line(index, table, values, clock, row, hover, width=2 if high else 1)


def _state(
    index: int, label: str, table: pl.DataFrame, column: str, factor: float, clock: Unit, row: int
) -> go.Scatter:
    values = table[column].cast(pl.Float64).to_numpy() * factor
    return _line(index, table, values, clock, row, f"{plain(label)}: %{{y:.3~g}}<extra></extra>", width=1.5)


def _line(
    index: int, table: pl.DataFrame, values: Floats, clock: Unit, row: int, hover: str, width: float
) -> go.Scatter:
    return go.Scatter(
        x=table["time_s"].to_numpy() * clock.factor,
        y=values,
        yaxis=_name("y", row),
        mode="lines",
        line=line(index, width),
        opacity=1 if width > 1 else 0.6,
        hovertemplate=hover,
    )


def _events(index: int, table: pl.DataFrame, clock: Unit, row: int) -> list[go.Scatter]:
    """One series a kind of event, a mark a time bin, its area the number of events."""
    found = []
    for i, (key, part) in enumerate(sorted(table.partition_by("kind", as_dict=True).items())):
        kind = plain(str(key[0]), 12)
        counts = part["events"].to_numpy()
        marker = {
            "symbol": EVENT_SYMBOLS[i % len(EVENT_SYMBOLS)],
            "color": colour(index),
            "size": 4 + 8 * np.sqrt(counts / counts.max()),
            "opacity": 0.6,
        }
        times = part["time_s"].to_numpy() * clock.factor
        hover = f"{kind}: %{{customdata}}<extra></extra>"
        found.append(
            go.Scatter(
                x=times,
                y=[kind] * len(times),
                yaxis=_name("y", row),
                mode="markers",
                marker=marker,
                customdata=counts,
                hovertemplate=hover,
            )
        )
    return found


def stacked(
    traces: Sequence[go.Scatter],
    titles: Sequence[str],
    clock: Unit,
    *,
    events: bool = False,
    gap: float = GAP,
    **more: Any,
) -> go.Figure:
    """Rows above each other on one x axis; zooming any row zooms all. `events`: the last row names kinds of them."""
    n = len(titles)
    height = (1 - gap * (n - 1)) / n
    axes: dict[str, Any] = {}
    annotations = []
    for i, title in enumerate(titles):
        top = 1 - i * (height + gap)
        category = {"type": "category", "showgrid": False} if events and i == n - 1 else {"rangemode": "tozero"}
        axes[_name("yaxis", i + 1)] = axis(domain=[max(0, top - height), top], nticks=4, **category)
        style = {
            "showarrow": False,
            "xanchor": "left",
            "yanchor": "bottom",
            "font": {"color": "var(--ink)", "size": 12},
        }
        annotations.append({"text": title, "x": 0, "y": top, "xref": "paper", "yref": "paper", **style})
    x = axis(f"Time since the start ({clock.name})", anchor=_name("y", n), hoverformat=".4~g", rangemode="nonnegative")
    margin = {"l": 8, "r": 12, "t": 22, "b": 8}
    return figure(traces, xaxis=x, **axes, annotations=annotations, margin=margin, **{"hovermode": "x unified", **more})


def _name(stem: str, row: int) -> str:
    return stem if row == 1 else f"{stem}{row}"


def panel(
    lines: Sequence[tuple[int, str, Floats, Floats]],
    context: tuple[Floats, Floats],
    ranges: tuple[list[float], list[float]],
    unit: Unit,
) -> go.Figure:
    """One group's tail in the runs' colours, all requests of the first run grey behind it."""
    grey = {"color": "var(--muted)", "width": 1}
    traces = [
        go.Scatter(x=context[0] * unit.factor, y=context[1], mode="lines", line=grey, opacity=0.5, hoverinfo="skip")
    ]
    for index, label, values, above in lines:
        hover = f"{plain(label)}<br>%{{y:.3~%}} above %{{x:.3~g}} {unit.name}<extra></extra>"
        traces.append(go.Scatter(x=values * unit.factor, y=above, mode="lines", line=line(index), hovertemplate=hover))
    ticks = {1: "all", 0.1: "P90", 0.01: "P99", 0.001: "P99.9", 1e-4: ""}
    y = axis(type="log", range=ranges[1], tickvals=list(ticks), ticktext=list(ticks.values()))
    margin = {"l": 6, "r": 8, "t": 4, "b": 4}
    return figure(traces, xaxis=axis(type="log", range=ranges[0], dtick=1), yaxis=y, margin=margin)


def heat(table: pl.DataFrame, models: Sequence[str | None], unit: Unit, clock: Unit, title: str) -> go.Figure:
    """P99 by model and time, colour on a log scale; blank where there are too few requests."""
    times = table["time_s"].unique().sort()
    values = _matrix(table, "p99", models, times) * unit.factor
    counts = _matrix(table, "requests", models, times)
    with np.errstate(divide="ignore"):
        shown = np.where(values > 0, np.log10(values), np.nan)
    bar = _colour_bar(shown, f"{title} ({unit.name})")
    trace = go.Heatmap(
        x=times.to_numpy() * clock.factor,
        y=[plain(name_of(m), 20) for m in models],
        z=shown,
        customdata=np.dstack([values, counts]),
        colorscale="Cividis",
        colorbar=bar,
        xgap=0.5,
        ygap=1,
        hovertemplate="%{y}<br>at %{x:.4~g} " + clock.name + ": %{customdata[0]:.3~g} " + unit.name
        + "<br>%{customdata[1]} requests<extra></extra>",
    )  # fmt: skip
    y = axis(type="category", autorange="reversed", showgrid=False)
    return figure([trace], xaxis=axis(f"Time since the start ({clock.name})", showgrid=False), yaxis=y)


def _colour_bar(logs: Floats, title: str) -> dict[str, Any]:
    known = logs[~np.isnan(logs)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    round_values = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
    ticks = [v for v in round_values if low <= np.log10(v) <= high] or [10**low]
    sparse = [v for v in ticks if len(ticks) <= 5 or f"{v:.0e}".startswith("1")]
    return {
        "tickvals": [float(np.log10(v)) for v in sparse],
        "ticktext": [f"{v:g}" for v in sparse],
        "title": {"text": title, "side": "top"},
        "orientation": "h",
        "thickness": 8,
        "len": 0.6,
        "tickangle": 0,
        "x": 1,
        "xanchor": "right",
        "y": 1.0,
        "yanchor": "bottom",
        "outlinewidth": 0,
    }


def _matrix(table: pl.DataFrame, column: str, models: Sequence[str | None], times: pl.Series) -> Floats:
    """A row a model, a column a time; NaN where the table has no row."""
    found = np.full((len(models), len(times)), np.nan)
    rows = {m: i for i, m in enumerate(models)}
    columns = np.searchsorted(times.to_numpy(), table["time_s"].to_numpy())
    for model, j, value in zip(table["model"], columns, table[column], strict=True):
        found[rows[model], j] = np.nan if value is None else value
    return found


def name_of(group: str | None) -> str:
    """A group's name as it is shown; requests without one are a group too."""
    return "(none)" if group is None else clipped(group, NAME_LENGTH) or "(empty)"
