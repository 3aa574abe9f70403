"""The charts of the trace page: each takes an analysis's table and gives a Plotly figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports.figures import axis, colour, figure, line, plain
from reports.words import Unit


def steps(table: pl.DataFrame, x: str, y: str, clock: Unit, title: str) -> go.Figure:
    """A quantity over time, constant within each window, filled to zero."""
    trace = go.Scatter(
        x=table[x].to_numpy() * clock.factor,
        y=table[y].to_numpy(),
        mode="lines",
        line={**line(0, 1.5), "shape": "hv"},
        fill="tozeroy",
        fillcolor="var(--wash)",
        hovertemplate=f"at %{{x:.4~g}} {clock.name}: %{{y:.3~g}}<extra></extra>",
    )
    x_axis = axis(f"Time since the start ({clock.name})")
    return figure([trace], xaxis=x_axis, yaxis=axis(title, rangemode="tozero"))


def dispersion(table: pl.DataFrame) -> go.Figure:
    """Variance over mean of counts against the window, with the band where Poisson traffic would be."""
    windows = table["window_s"].to_list()
    low, high = table["poisson_low"].to_list(), table["poisson_high"].to_list()
    poisson = go.Scatter(
        x=windows + windows[::-1], y=low + high[::-1], fill="toself", fillcolor="var(--grid)", line={"width": 0},
        mode="lines", hoverinfo="skip",
    )  # fmt: skip
    measured = go.Scatter(
        x=windows, y=table["index"], mode="lines+markers", line=line(0), marker={"size": 7, "color": colour(0)},
        hovertemplate="windows of %{x} s: %{y:.3~g}<extra></extra>",
    )  # fmt: skip
    result = figure(
        [poisson, measured],
        xaxis=axis("Window (s)", type="log", tickvals=windows, ticktext=[f"{w:g}" for w in windows]),
        yaxis=axis("Variance ÷ mean of counts", type="log", dtick=1),
    )
    return result.add_hline(y=1, line={"color": "var(--muted)", "width": 1, "dash": "dot"})


def histogram(table: pl.DataFrame) -> go.Figure:
    """Shares of requests by length, prompt and output, on a log axis, each named at its peak."""
    traces, labels = [], []
    for index, column in enumerate(("prompt_tokens", "output_tokens")):
        part = table.filter((pl.col("column") == column) & (pl.col("low") > 0)).sort("low")
        if part.is_empty():
            continue
        name = column.removesuffix("_tokens")
        hover = f"{name}, from %{{x:.3~g}}: %{{y:.2~%}}<extra></extra>"
        style = {**line(index), "shape": "hv"}
        traces.append(go.Scatter(x=part["low"], y=part["share"], mode="lines", line=style, hovertemplate=hover))
        peak = part.sort("share", descending=True).row(0, named=True)
        labels.append(_label(index, name, np.log10(peak["low"] * 1.12), peak["share"]))
    y = axis("Share of requests", tickformat="~%", rangemode="tozero")
    x = axis("Tokens", type="log", dtick=1)
    return figure(traces, xaxis=x, yaxis=y, annotations=labels, margin={"l": 8, "r": 12, "t": 24, "b": 8})


def _label(index: int, name: str, x: float, y: float) -> dict[str, Any]:
    """A line's name, above a point of it."""
    text = f'<span style="color:{colour(index)}">━</span> {plain(name)}'
    return {"text": text, "x": x, "y": y, "yanchor": "bottom", "showarrow": False, "font": {"color": "var(--ink)"}}


def ranks(tables: Sequence[tuple[int, str, pl.DataFrame]]) -> go.Figure:
    """Share against rank, both axes log: a line is Zipf's law."""
    traces = [
        go.Scatter(
            x=table["rank"],
            y=table["share"],
            mode="lines+markers",
            line=line(index, 1.5),
            marker={"size": 5, "color": colour(index)},
            text=[plain(name if name is not None else "(none)") for name in table[column]],
            hovertemplate="%{text}: %{y:.2~%}<extra></extra>",
        )
        for index, column, table in tables
    ]
    y = axis("Share of requests", type="log", tickformat="~%")
    labels = [
        _label(index, f"{column}s", float(np.log10(table["rank"][0])), float(np.log10(table["share"][0])))
        | {"xanchor": "left"}
        for index, column, table in tables
    ]
    margin = {"l": 8, "r": 12, "t": 24, "b": 8}
    return figure(traces, xaxis=axis("Rank", type="log", dtick=1), yaxis=y, annotations=labels, margin=margin)


def curve(
    table: pl.DataFrame, x: str, y: str, titles: tuple[str, str], *, log: bool = True, share: bool = False
) -> go.Figure:
    """One column against another."""
    trace = go.Scatter(
        x=table[x], y=table[y], mode="lines+markers", line=line(0), marker={"size": 6, "color": colour(0)},
        hovertemplate=f"%{{x:.3~g}}: %{{y:{'.1%' if share else '.3~g'}}}<extra></extra>",
    )  # fmt: skip
    form = {"tickformat": ".0%", "range": [0, 1.02]} if share else {"rangemode": "tozero"}
    x_axis = axis(titles[0], type="log", dtick=1) if log else axis(titles[0])
    return figure([trace], xaxis=x_axis, yaxis=axis(titles[1], **form))
