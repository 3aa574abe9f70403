"""The charts of groups that burst together: activity over time, who with whom, and when each group is there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports.figures import axis, colour, figure, line, plain
from reports.resampling import Floats
from reports.words import Unit

NAME = 20
BAR = {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%", "len": 0.9}


def activity(table: pl.DataFrame, names: Sequence[str], clock: Unit) -> go.Figure:
    """Name by time, the share of windows in which it is active above its background."""
    times = table["start_s"].unique().sort()
    width_s = float(table["window_s"][0])
    shares = _matrix(table, "name", "start_s", "active_share", names, times)
    trace = go.Heatmap(
        x=(times.to_numpy() + width_s / 2) * clock.factor,
        y=np.arange(len(names)),
        z=shares.astype(np.float32),
        zmin=0,
        colorscale="Cividis",
        colorbar={**BAR, "title": {"text": "active", "side": "right"}},
        customdata=np.repeat([[plain(n)] for n in names], len(times), axis=1),
        hovertemplate="%{customdata}<br>at %{x:.4~g} " + clock.name + ": active %{z:.0%}<extra></extra>",
    )
    x = axis(f"Time since the start ({clock.name})", showgrid=False)
    return figure([trace], xaxis=x, yaxis=_names(names))


def together(table: pl.DataFrame, names: Sequence[str]) -> go.Figure:
    """Name by name, how far pairs are active together beyond chance; a dot marks those that the tests found."""
    both = pl.concat([table, table.rename({"name": "other", "other": "name"}).select(table.columns)])
    values = _matrix(both, "name", "other", "association", names, pl.Series(names))
    place = {name: i for i, name in enumerate(names)}
    found = both.filter("associated")
    pairs = go.Heatmap(
        x=np.arange(len(names)),
        y=np.arange(len(names)),
        z=np.maximum(values, 0).astype(np.float32),
        zmin=0,
        colorscale="Cividis",
        colorbar={**BAR, "title": {"text": "together, beyond chance", "side": "right"}},
        customdata=[[[plain(a), plain(b)] for b in names] for a in names],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>%{z:.0%}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    dots = go.Scatter(
        x=[place[n] for n in found["name"]],
        y=[place[n] for n in found["other"]],
        mode="markers",
        marker={"size": 4, "color": "#ffffff", "line": {"color": "#000000", "width": 1}},
        hoverinfo="skip",
    )
    return figure([pairs, dots], xaxis=axis(showgrid=False, showticklabels=False), yaxis=_names(names))


def timeline(active: pl.DataFrame, intervals: pl.DataFrame, bursts: pl.DataFrame, clock: Unit, title: str) -> go.Figure:
    """How many names are active over time and, below, from when to when each group is there, its bursts as ticks."""
    ids = intervals["id"].unique(maintain_order=True).to_list()
    count = go.Scatter(
        x=active["start_s"].to_numpy() * clock.factor,
        y=active["active"],
        mode="lines",
        line={**line(0, 1.5), "shape": "hv"},
        fill="tozeroy",
        fillcolor="var(--wash)",
        hovertemplate="%{y} active at %{x:.4~g} " + clock.name + "<extra></extra>",
    )
    if not ids:
        return figure([count], xaxis=_time(clock), yaxis=axis(title, rangemode="tozero"))
    share = min(0.55, 0.08 + 0.07 * len(ids))
    rows = [_stay(row, ids, clock) for row in intervals.to_dicts()] + [_ticks(bursts, intervals, ids, clock)]
    lanes = axis(
        tickvals=list(range(len(ids))),
        ticktext=[plain(name) for name in ids],
        range=[len(ids) - 0.4, -0.6],
        domain=[0, share - 0.05],
        showgrid=False,
    )
    return figure(
        [count, *rows],
        xaxis=_time(clock, anchor="y2"),
        yaxis=axis(title, rangemode="tozero", domain=[share, 1]),
        yaxis2=lanes,
    )


def _stay(row: dict[str, Any], ids: Sequence[str], clock: Unit) -> go.Scatter:
    at = ids.index(row["id"])
    return go.Scatter(
        x=np.array([row["start_s"], row["end_s"]]) * clock.factor,
        y=[at, at],
        yaxis="y2",
        mode="lines",
        line={"color": colour(_number(row["id"])), "width": 12},
        opacity=0.35,
        hovertemplate=f"{plain(row['id'])}: %{{x:.4~g}} {clock.name}<extra></extra>",
    )


def _ticks(bursts: pl.DataFrame, intervals: pl.DataFrame, ids: Sequence[str], clock: Unit) -> go.Scatter:
    """The bursts that fall into an interval of their group."""
    numbered = intervals.with_columns(group=pl.col("id").str.extract(r"^g(\d+)").cast(pl.Int64))
    inside = bursts.join(numbered.rename({"start_s": "from_s", "end_s": "to_s"}), on="group")
    inside = inside.filter(pl.col("start_s") >= pl.col("from_s"), pl.col("start_s") < pl.col("to_s")).head(3_000)
    return go.Scatter(
        x=inside["start_s"].to_numpy() * clock.factor,
        y=[ids.index(name) for name in inside["id"]],
        yaxis="y2",
        mode="markers",
        marker={
            "symbol": "line-ns-open",
            "size": 9,
            "color": [colour(_number(name)) for name in inside["id"]],
            "line": {"width": 1},
        },
        customdata=inside["members"],
        hovertemplate="%{customdata} members at %{x:.4~g} " + clock.name + "<extra></extra>",
    )


def _number(name: str) -> int:
    """A group's number, the same for all its sets of members."""
    return int(name[1:].split(".")[0]) - 1


def _time(clock: Unit, **more: Any) -> dict[str, Any]:
    return axis(f"Time since the start ({clock.name})", **more)


def _names(names: Sequence[str]) -> dict[str, Any]:
    """Names from the top down; by number, so that two that are cut to the same text stay two."""
    ticks: dict[str, Any] = {"tickvals": list(range(len(names))), "ticktext": [plain(name, NAME) for name in names]}
    return axis(autorange="reversed", showgrid=False, **ticks)


def _matrix(table: pl.DataFrame, row: str, column: str, value: str, rows: Sequence[str], columns: pl.Series) -> Floats:
    """`value` as a matrix, NaN where there is no such row."""
    result = np.full((len(rows), len(columns)), np.nan)
    at_row = {name: i for i, name in enumerate(rows)}
    at_column = {name: i for i, name in enumerate(columns.to_list())}
    i = [at_row[name] for name in table[row].to_list()]
    j = [at_column[name] for name in table[column].to_list()]
    result[i, j] = table[value].to_numpy()
    return result
