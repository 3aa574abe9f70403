"""The charts of a run: each takes numbers and gives a Plotly figure; nothing is computed here but positions.

Colours are the page's CSS variables (`var(--run-0)`), which the page turns into the theme's colours when it draws, so
that a figure is right in light and dark. Text from traces goes through `plain`, because Plotly reads `<b>` as markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from reports.measured import clipped
from reports.resampling import Floats
from reports.sensitivity import INNER, Curves
from reports.words import Unit

COLOURS = 8
DASHES = ("solid", "dash", "dot")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
TAIL_TICKS = {
    1: "all",
    0.5: "50 %",
    0.1: "10 %  P90",
    0.01: "1 %  P99",
    1e-3: "0.1 %  P99.9",
    1e-4: "0.01 %",
    1e-5: "0.001 %",
}
WIDE = 3.0  # decades; from there on labels at 2 and 5 run into each other on a small screen
MARKED = np.array([0.9, 0.99, 0.999])


def colour(index: int) -> str:
    """A run's colour, the same everywhere; after eight the colours come again with other dashes."""
    return f"var(--run-{index % COLOURS})"


def line(index: int, width: float = 2) -> dict[str, Any]:
    return {"color": colour(index), "width": width, "dash": DASHES[index // COLOURS % len(DASHES)]}


def plain(text: str, length: int = 28) -> str:
    """`text` as Plotly shows it literally."""
    return clipped(text, length).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis in the page's style."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "ticks": "",
        "exponentformat": "none",
        "automargin": True,
        **more,
    }


def figure(traces: Sequence[Any], **layout: Any) -> go.Figure:
    """A figure in the page's style: no frame, no legend, transparent."""
    style = {
        "template": "none",
        "font": {"family": FONT, "size": 12, "color": "var(--muted)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 10, "b": 8},
        "showlegend": False,
        "separators": ".\u202f",
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
    }
    return go.Figure(list(traces), {**style, **layout})


def band(x: Floats, low: Floats, high: Floats, index: int, *, across: bool = False) -> go.Scatter:
    """A filled band between `low` and `high`; `across` when they are x values and `x` holds y."""
    known = ~(np.isnan(low) | np.isnan(high))
    along = np.concatenate([x[known], x[known][::-1]])
    edge = np.concatenate([low[known], high[known][::-1]])
    return go.Scatter(
        x=edge if across else along,
        y=along if across else edge,
        fill="toself",
        fillcolor=colour(index),
        opacity=0.16,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )


@dataclass(frozen=True)
class TailLine:
    """One run's tail: the value at each level with its band (all in seconds or bare)."""

    label: str
    index: int
    levels: Floats
    values: Floats
    low: Floats
    high: Floats
    steps: Curves = field(default_factory=dict)  # the same quantiles under other step times


def tail(lines: Sequence[TailLine], unit: Unit, title: str, slo: float | None) -> go.Figure:
    """The share of requests slower than x, both axes log, with bands, marks at P90, P99 and P99.9, and the SLO."""
    scaled = [_visible(each, unit.factor) for each in lines]
    drawn = [each for each in scaled if len(each.values)]
    traces = [part for each in drawn for part in _tail_traces(each, unit)]
    smallest = min((float(1 - each.levels[-1]) for each in drawn), default=0.1)
    named = drawn if 1 < len(drawn) <= 6 else []
    edge = np.log10(smallest) - 0.09 * max(1, -np.log10(smallest)) * (len(named) + 0.4)
    ticks = {at: text for at, text in TAIL_TICKS.items() if at >= smallest}
    span = _tail_range(drawn, slo, unit)
    wide = span is not None and span[1] - span[0] > WIDE
    x = axis(f"{title} ({unit.name})", type="log", dtick=1 if wide else "D2", range=span)
    y = axis(type="log", range=[edge, 0.04], tickvals=list(ticks), ticktext=list(ticks.values()))
    result = figure(traces, xaxis=x, yaxis=y, hovermode="closest", annotations=_tail_labels(named, smallest))
    return _slo_line(result, None if slo is None else slo * unit.factor)


def _tail_range(lines: Sequence[TailLine], slo: float | None, unit: Unit) -> list[float] | None:
    """From the fastest 2 % to the slowest request, and to the objective where there is one."""
    if not lines:
        return None
    starts = [float(np.interp(0.02, each.levels, each.values)) for each in lines]
    ends = [float(np.nanmax(np.append(each.high, each.values[-1]))) for each in lines]
    ends += [float(values[-1]) for each in lines for _, values in each.steps.values()]
    asked = [] if slo is None else [slo * unit.factor]
    return [float(np.log10(min(starts + asked))) - 0.03, float(np.log10(max(ends + asked))) + 0.06]


def _visible(each: TailLine, factor: float) -> TailLine:
    """What a log axis can show, scaled: values above zero."""
    kept = each.values > 0
    values, low, high = (part[kept] * factor for part in (each.values, each.low, each.high))
    smallest = values.min() if len(values) else 1.0
    steps = {s: (at[v > 0], v[v > 0] * factor) for s, (at, v) in each.steps.items() if (v > 0).any()}
    levels = each.levels[kept]
    return replace(each, levels=levels, values=values, low=np.maximum(low, smallest), high=high, steps=steps)


def _tail_traces(each: TailLine, unit: Unit) -> list[go.Scatter]:
    above, name = 1 - each.levels, plain(each.label)
    marked = MARKED[each.levels[-1] >= MARKED]
    at = np.interp(marked, each.levels, each.values)
    percentiles = [f"P{m * 100:g}" for m in marked]
    hover = f"{name}<br>%{{y:.3~%}} slower than %{{x:.3~g}} {unit.name}<extra></extra>"
    return [
        band(above, each.low, each.high, each.index, across=True),
        *(_step_line(each, scale, unit) for scale in each.steps),
        go.Scatter(x=each.values, y=above, mode="lines", line=line(each.index), hovertemplate=hover),
        go.Scatter(
            x=at,
            y=1 - marked,
            mode="markers",
            text=percentiles,
            marker={"color": colour(each.index), "size": 7, "line": {"color": "var(--paper)", "width": 1.5}},
            hovertemplate=f"{name}<br>%{{text}}: %{{x:.3~g}} {unit.name}<extra></extra>",
        ),
    ]


def _step_line(each: TailLine, scale: float, unit: Unit) -> go.Scatter:
    """The tail under another step time: thin, dashed within 5 %, dotted beyond."""
    levels, values = each.steps[scale]
    said = f"every step {abs(scale - 1) * 100:.2g} % {'slower' if scale > 1 else 'faster'}"
    return go.Scatter(
        x=values.astype(np.float32),
        y=(1 - levels).astype(np.float32),
        mode="lines",
        line={"color": colour(each.index), "width": 1, "dash": "4px,3px" if scale in INNER else "1px,3px"},
        hovertemplate=f"{plain(each.label)}, {said}<br>%{{y:.3~%}} slower than %{{x:.3~g}} {unit.name}<extra></extra>",
    )


def _tail_labels(lines: Sequence[TailLine], smallest: float) -> list[dict[str, Any]]:
    """Each run's name below the end of its line, one row each, where no line can be."""
    ordered = sorted(lines, key=lambda each: -float(each.values[-1]))
    lowest = min((float(each.values[0]) for each in lines), default=1.0)
    highest = max((float(each.values[-1]) for each in lines), default=1.0)
    row = 0.09 * max(1, -np.log10(smallest))
    return [
        {
            "x": float(np.log10(each.values[-1])),
            "y": float(np.log10(smallest) - row * (i + 0.7)),
            "text": f'<span style="color:{colour(each.index)}">━</span> {plain(each.label)}',
            "xanchor": "right" if each.values[-1] > np.sqrt(lowest * highest) else "left",
            "showarrow": False,
            "font": {"color": "var(--ink)", "size": 12},
        }
        for i, each in enumerate(ordered)
    ]


def _slo_line(result: go.Figure, slo: float | None) -> go.Figure:
    """The objective as a red line, named above the plot; red means nothing else on the page."""
    if slo is not None:
        style = {"color": "var(--miss)", "width": 1.5, "dash": "dash"}
        result.add_shape(type="line", x0=slo, x1=slo, y0=0, y1=1, yref="paper", line=style)
        place = {"x": float(np.log10(slo)), "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        result.add_annotation(text="SLO", font_color="var(--miss)", **place)
        result.update_layout(margin_t=24)
    return result


def shift(lines: Sequence[tuple[int, str, dict[str, Floats]]], unit: Unit, title: str) -> go.Figure:
    """The difference to the base at each percentile, with its band; the x axis stretches the tail."""
    traces: list[go.Scatter] = []
    for index, label, data in lines:
        x = -np.log10(1 - data["level"])
        low, high, difference = (data[k] * unit.factor for k in ("low", "high", "difference"))
        hover = f"{plain(label)}<br>P%{{text}}: %{{y:+.3~g}} {unit.name}<extra></extra>"
        text = [f"{level * 100:.4g}" for level in data["level"]]
        traces.append(band(x, low, high, index))
        traces.append(go.Scatter(x=x, y=difference, mode="lines", line=line(index), text=text, hovertemplate=hover))
    ticks = [0.1, 0.5, 0.9, 0.99, 0.999]
    result = figure(
        traces,
        xaxis=axis("Percentile", tickvals=[-np.log10(1 - t) for t in ticks], ticktext=[f"P{t * 100:g}" for t in ticks]),
        yaxis=axis(f"Difference in {title} ({unit.name})"),
    )
    return result.add_hline(y=0, line={"color": "var(--muted)", "width": 1})


def attainment(lines: Sequence[tuple[int, str, Floats]], scales: Floats) -> go.Figure:
    """The share of offered requests that would meet objectives so many times as long."""
    traces = [
        go.Scatter(
            x=scales,
            y=shares,
            mode="lines",
            line=line(index),
            hovertemplate=f"{plain(label)}<br>%{{y:.1%}} at %{{x:.2~f}} × the SLO<extra></extra>",
        )
        for index, label, shares in lines
    ]
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    x = axis("SLO scale (×)", type="log", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    y = axis("Offered requests that meet it", tickformat=".0%", range=[0, 1.02])
    return _slo_line(figure(traces, xaxis=x, yaxis=y), 1.0)
