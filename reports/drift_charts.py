"""Charts of drift and clients: the distribution over time with its change points, distances, causes, calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports import words
from reports.figures import axis, band, colour, figure, line, plain
from reports.page import Chart
from reports.time_figures import time_unit
from reports.words import Unit, number, percent

Frames = Mapping[str, pl.DataFrame]
NAMES = {
    "prompt_tokens": "Prompt tokens",
    "output_tokens": "Output tokens",
    "ratio": "Output ÷ prompt tokens",
    "estimate": "Actual ÷ estimate",
}
SHOWN_CHANGES, SHOWN_LINES, SHOWN_STRATA = 12, 6, 12


def drift(frames: Frames) -> list[Chart]:
    """Every chart of the drift analysis that has data."""
    charts = []
    for name in frames["summary"]["column"]:
        own = {
            key: table.filter(pl.col("column") == name) for key, table in frames.items() if "column" in table.columns
        }
        charts += [*_distribution(name, own), *_strata(name, own), *_distances(name, own), *_causes(name, own)]
    return [*charts, *_calibration(frames)]


def clients(frames: Frames) -> list[Chart]:
    """The rate of the busiest clients over time."""
    found = frames["windows"]
    if found["start_s"].n_unique() < 2:
        return []
    shown = frames["clients"]["tenant"].head(SHOWN_LINES).to_list()
    clock = _clock(found)
    lines = [
        _line(i, table["start_s"], table["rate_per_s"], clock, plain(name))
        for i, name in enumerate(shown)
        if not (table := found.filter(pl.col("tenant") == name)).is_empty()
    ]
    drawn = figure(lines, xaxis=_time_axis(clock), yaxis=axis("Requests per second", rangemode="tozero"))
    note = f"The {len(shown)} busiest clients, in windows of {words.duration(found['window_s'][0])}{_burst(frames)}."
    return [Chart("clients", "Rate of the busiest clients over time", note, _named(drawn), found, 300)]


def _burst(frames: Frames) -> str:
    if frames["makers"].is_empty():
        return "; no window is far above the mean rate"
    worst = frames["peaks"].sort("times_mean", descending=True).row(0, named=True)
    maker = frames["makers"].filter(pl.col("start_s") == worst["start_s"]).row(0, named=True)
    said = f"{percent(maker['excess_share'])} of what the clients sent above their own means"
    return f"; in the highest burst, {number(worst['times_mean'])} times the mean rate, the first sent {said}"


def _distribution(name: str, own: Frames) -> list[Chart]:
    found = own["windows"]
    if found.height < 2 or found["start_s"].null_count() or found["p50"].null_count():
        return []
    clock, points = _clock(found), own["change_points"]
    middle = ((found["start_s"] + found["end_s"]) / 2).to_numpy() * clock.factor
    drawn = figure(
        [
            band(middle, found["p10"].to_numpy(), found["p90"].to_numpy(), 0),
            band(middle, found["p25"].to_numpy(), found["p75"].to_numpy(), 0),
            go.Scatter(
                x=middle, y=found["p50"], mode="lines", line=line(0),
                hovertemplate=f"median at %{{x:.4~g}} {clock.name}: %{{y:.4~g}}<extra></extra>",
            ),
        ],
        xaxis=_time_axis(clock),
        yaxis=axis(NAMES.get(name, name), type="log"),
    )  # fmt: skip
    _mark(drawn, points, clock)
    title = f"{NAMES.get(name, name)} over time: median, half and four fifths of the requests"
    return [Chart(f"drift-{name}", title, _said(points, clock), drawn, found, 300)]


def _said(points: pl.DataFrame, clock: Unit) -> str:
    if points.is_empty():
        return "No change of all requests together stands out from their own wander."
    largest = points.sort("ks", descending=True).row(0, named=True)
    where = f"at {clock.spell(largest['time_s'])} the median goes from {number(largest['before'])}"
    count = f"{points.height} change points" if points.height > 1 else "One change point"
    return f"{count} (dashed, with their 95 % intervals); the largest: {where} to {number(largest['after'])}."


def _mark(drawn: go.Figure, points: pl.DataFrame, clock: Unit) -> None:
    style = {"color": "var(--muted)", "width": 1, "dash": "dash"}
    for point in points.to_dicts():
        low, high = point["time_low_s"] * clock.factor, point["time_high_s"] * clock.factor
        drawn.add_vrect(x0=low, x1=high, fillcolor="var(--grid)", line_width=0, layer="below")
        drawn.add_vline(x=point["time_s"] * clock.factor, line=style)


def _strata(name: str, own: Frames) -> list[Chart]:
    """When which model or tenant changed that did so alone, with what its median was before and after."""
    found = own["strata_points"]
    if found.is_empty() or found["time_s"].null_count():
        return []
    clock = _clock(own["windows"])
    found = found.with_columns(part=pl.Series([_part(row) for row in found.to_dicts()]))
    shown = found.filter(pl.col("part").is_in(found["part"].unique(maintain_order=True).head(SHOWN_STRATA).implode()))
    at, low, high = (shown[c].to_numpy() * clock.factor for c in ("time_s", "time_low_s", "time_high_s"))
    said = [f"{number(before)} → {number(after)}" for before, after in shown.select("before", "after").iter_rows()]
    drawn = figure(
        [
            go.Scatter(
                x=at, y=[plain(part) for part in shown["part"]], mode="markers+text", text=said,
                textposition="top center", marker={"color": colour(0), "size": 9}, cliponaxis=False,
                error_x={"array": high - at, "arrayminus": at - low, "color": "var(--muted)"},
                hovertemplate=f"%{{y}}, %{{x:.4~g}} {clock.name}: median %{{text}}<extra></extra>",
            )
        ],
        xaxis=_time_axis(clock) | {"range": [0, float(np.nanmax(own["windows"]["end_s"].to_numpy())) * clock.factor]},
        yaxis=axis(type="category", autorange="reversed"),
    )  # fmt: skip
    tested, left_out = own["summary"].select("strata_tested", "strata_left_out").row(0)
    first = shown.row(0, named=True)
    note = (
        f"The clearest: {first['part']} ({percent(first['share'])} of the requests), whose median goes from "
        f"{number(first['before'])} to {number(first['after'])} at {clock.spell(first['time_s'])}. "
        f"Bars are 95 % intervals. {tested} parts were tested, {left_out} were not."
    )
    parts = shown["part"].n_unique()
    title = f"{NAMES.get(name, name)}: changes in a part of the requests only"
    return [Chart(f"strata-{name}", title, note, drawn, found, 120 + 40 * parts)]


def _part(row: Mapping[str, Any]) -> str:
    return " of ".join(f"{by} {row[by]}" for by in ("tenant", "model") if row[by] is not None)


def _distances(name: str, own: Frames) -> list[Chart]:
    found = own["windows"]
    limits = own["null"].filter((pl.col("distance") == "ks") & (pl.col("against") == "reference"))
    if found.height < 3 or found["start_s"].null_count() or limits.is_empty():
        return []
    clock, limit = _clock(found), limits["null"][0]
    lines = [
        _line(i, found["start_s"], found[f"ks_{against}"], clock, label)
        for i, (against, label) in enumerate((("reference", "first window"), ("previous", "window before")))
    ]
    drawn = figure(lines, xaxis=_time_axis(clock), yaxis=axis("Distance", rangemode="tozero"))
    _named(drawn).add_hline(y=limit, line={"color": "var(--muted)", "width": 1, "dash": "dot"})
    above = found.filter(pl.col("ks_reference") > limit).height
    measure = "Kolmogorov–Smirnov distance" if name in NAMES else "Share of requests that moved"
    note = (
        f"{measure} of each window from the first (blue) and from the one before. "
        f"{above} of {found.height} lie above the dotted line, which 99 % of traces with the same blocks in another "
        f"order never cross."
    )
    title = f"{NAMES.get(name, f'Mix of {name}s')}: distance from the first window"
    return [Chart(f"distance-{name}", title, note, drawn, found, 240)]


def _causes(name: str, own: Frames) -> list[Chart]:
    by = own["summary"]["cause_by"][0]
    found = own["cause"].filter(pl.col("by") == by) if by else own["cause"].clear()
    if found.is_empty():
        return []
    summed = found.group_by("change", maintain_order=True).agg(pl.col("own", "mix").sum()).head(SHOWN_CHANGES)
    labels = [f"change {change + 1}" for change in summed["change"]]
    bars = [
        go.Bar(
            y=labels, x=summed[part], orientation="h", marker={"color": colour(i)}, name=label,
            hovertemplate=f"{label}: %{{x:.0%}}<extra></extra>",
        )
        for i, (part, label) in enumerate((("mix", "mix"), ("own", "within")))
    ]  # fmt: skip
    kind = "prompt lengths" if by == "prompt_tokens" else f"{by}s"
    mix, within = (percent(own["summary"][part][0]) for part in ("mix", "own"))
    note = f"{mix} of the drift is a changed mix of {kind} (left), {within} is change within them (right)."
    x = axis("Share of the change", tickformat=".0%")
    drawn = figure(bars, barmode="relative", xaxis=x, yaxis=axis(autorange="reversed"))
    title = f"{NAMES.get(name, name)}: why each change happened"
    return [Chart(f"cause-{name}", title, note, drawn, found, 120 + 28 * summed.height)]


def _calibration(frames: Frames) -> list[Chart]:
    estimator = "trace" if "trace" in frames["factors"]["estimator"] else "class mean"
    found = frames["factors"].filter(pl.col("estimator") == estimator)
    if found.height < 2:
        return []
    clock = _clock(found.rename({"time_s": "start_s"}))
    classes = found["class"].unique(maintain_order=True).head(SHOWN_LINES)
    lines = [
        _line(i, table["time_s"], table["factor"], clock, plain(name))
        for i, name in enumerate(classes)
        if not (table := found.filter(pl.col("class") == name)).is_empty()
    ]
    drawn = figure(lines, xaxis=_time_axis(clock), yaxis=axis("Actual ÷ estimate", rangemode="tozero"))
    _named(drawn).add_hline(y=1, line={"color": "var(--muted)", "width": 1, "dash": "dot"})
    note = f"Calibration of the estimator '{estimator}', a line a class (the busiest). {_errors(frames, estimator)}"
    title = "How far estimates of output length would have to be corrected"
    return [Chart("calibration", title, note, drawn, found, 260)]


def _errors(frames: Frames, estimator: str) -> str:
    rows = frames["estimate"].filter((pl.col("estimator") == estimator) & (pl.col("by") == "all"))
    mae = dict(rows.select("calibration", "mae").iter_rows())
    return f"Mean absolute error {number(mae.get('static'))} tokens left alone, {number(mae.get('ema'))} calibrated."


def _named(drawn: go.Figure) -> go.Figure:
    """The names of a figure's lines in one row above it, each with its colour; none for a single line."""
    names = [f'<span style="color:{each.line.color}">━</span> {each.name}' for each in drawn.data]
    if len(names) > 1:
        place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yref": "paper", "yanchor": "bottom"}
        drawn.add_annotation(text="   ".join(names), showarrow=False, font={"color": "var(--ink)"}, **place)
        drawn.update_layout(margin={"l": 8, "r": 12, "t": 24, "b": 8})
    return drawn


def _line(index: int, x: pl.Series, y: pl.Series, clock: Unit, label: str) -> go.Scatter:
    return go.Scatter(
        x=x.to_numpy() * clock.factor, y=y.to_numpy(), mode="lines", line=line(index, 1.5), name=label,
        hovertemplate=f"{label}, %{{x:.4~g}} {clock.name}: %{{y:.3~g}}<extra></extra>",
    )  # fmt: skip


def _clock(found: pl.DataFrame) -> Unit:
    return time_unit(float(np.nanmax(found["start_s"].to_numpy())))


def _time_axis(clock: Unit) -> dict[str, Any]:
    return axis(f"Time since the start ({clock.name})")
