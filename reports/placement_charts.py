"""The run page's chart of a cluster: each GPU's memory by model along time, what moved as marks, the active set."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from reports import overtime, residency
from reports.figures import colour, plain
from reports.measured import Measured
from reports.page import Chart
from reports.time_figures import name_of, stacked, time_unit
from reports.words import Unit, duration, listing

GPUS = 8  # lanes of a chart
GIB = 2**30
LANE, GAP = 110, 26  # pixels of a lane, of them between it and the next
NAMED = 24  # models in the key


def charts(runs: Sequence[Measured]) -> list[Chart]:
    """One a run on a cluster."""
    placed = [r for r in runs if residency.on_cluster(r)]
    if not placed:
        return []
    start, end = overtime.span_of(placed)
    width = overtime.bin_width(end - start)
    bins = max(1, int(np.ceil((end - start) / width)))
    models = _models(placed)
    return [_chart(i, r, models, start, width, bins) for i, r in enumerate(placed)]


def key(runs: Sequence[Measured]) -> list[dict[str, str]]:
    """Labels and colours of the models, where they are few enough to be told apart."""
    models = _models([r for r in runs if residency.on_cluster(r)])
    return [{"label": name_of(m), "colour": colour(i)} for i, m in enumerate(models)] if len(models) <= NAMED else []


def _models(placed: Sequence[Measured]) -> list[str]:
    """Every model that was on a GPU in any of the runs: the same colour in all."""
    return sorted({m for r in placed for m in residency.stays(r)["model"].unique()})


def _chart(index: int, run: Measured, models: list[str], start: float, width: float, bins: int) -> Chart:
    held = residency.memory(run, start, width, bins)
    active = residency.active_set(run, start, width, bins)
    gpus = sorted(held["gpu"].unique().to_list(), key=lambda g: (len(g), g))
    shown, clock = gpus[:GPUS], time_unit(bins * width)
    moved = run.events.filter(pl.col("kind").is_in(["load", "evict", "migrate"]) & (pl.col("duration_s") > 0))
    return Chart(
        name=f"placed-{index}",
        title=f"Memory of each GPU by model, {run.label}",
        note=_note(moved, len(shown), len(gpus), width),
        figure=_figure(models, held, active, moved, shown, clock),
        data=held,
        height=60 + LANE * (len(shown) + 1),
        tab=run.label,
    )


def _note(moved: pl.DataFrame, shown: int, gpus: int, width: float) -> str:
    kinds = dict(moved.unique(["time_s", "kind", "model"])["kind"].value_counts().iter_rows())
    said = [f"{kinds[k]:,} {k}{'s' if kinds[k] != 1 else ''}".replace("evicts", "evictions") for k in sorted(kinds)]
    some = f" The first {shown} of {gpus} GPUs are shown." if shown < gpus else ""
    first = (
        f"{listing([s.replace('migrates', 'migrations') for s in said])} during the replay."
        if said
        else "No model moved."
    )
    how = f"Solid: weights, hatched: KV; active: with a request in the last two minutes; {duration(width)} a point."
    return f"{first} {how}{some}"


def _figure(
    models: list[str], held: pl.DataFrame, active: pl.DataFrame, moved: pl.DataFrame, gpus: list[str], clock: Unit
) -> go.Figure:
    colours = {m: colour(i) for i, m in enumerate(models)}
    traces = [_active(active, clock)]
    titles = ["Active models"]
    times = active["time_s"].to_numpy()
    for lane, gpu in enumerate(gpus, start=2):
        here = held.filter(pl.col("gpu") == gpu)
        traces += [
            t for m in models for t in _areas(here.filter(pl.col("model") == m), m, times, clock, lane, colours[m])
        ]
        total = here.group_by("time_s").agg(pl.sum("weights_bytes", "kv_bytes"))
        top = float((total["weights_bytes"] + total["kv_bytes"]).max() or 0.0) / GIB  # type: ignore[arg-type]
        traces += _marks(moved.filter(pl.col("gpu") == gpu), top, clock, lane, colours)
        titles.append(f"GPU {plain(gpu)} (GiB)")
    return stacked(traces, titles, clock, gap=GAP / (LANE * len(titles)), hovermode="closest")


def _active(active: pl.DataFrame, clock: Unit) -> go.Scatter:
    line = {"color": "var(--ink)", "width": 1.5, "shape": "hv"}
    x = active["time_s"].to_numpy() * clock.factor
    return go.Scatter(
        x=x, y=active["active"].to_numpy(), mode="lines", line=line, hovertemplate="%{y} active<extra></extra>"
    )


def _areas(part: pl.DataFrame, model: str, times: np.ndarray, clock: Unit, lane: int, paint: str) -> list[go.Scatter]:
    """A model's weights, and its KV above them, at all times of the chart."""
    if part.is_empty():
        return []
    found = []
    for column, shape, what in (("weights_bytes", "", "weights"), ("kv_bytes", "/", "KV")):
        values = np.zeros(len(times))
        values[np.searchsorted(times, part["time_s"].to_numpy() - 1e-6)] = part[column].to_numpy() / GIB
        found.append(
            go.Scatter(
                x=times * clock.factor,
                y=values,
                yaxis=f"y{lane}",
                stackgroup=f"gpu{lane}",
                mode="none",
                fillcolor=paint,
                fillpattern={"shape": shape, "fgcolor": paint, "size": 5, "solidity": 0.4},
                hovertemplate=f"{plain(name_of(model))} {what}: %{{y:.1f}} GiB<extra></extra>",
            )
        )
    return found


def _marks(moved: pl.DataFrame, top: float, clock: Unit, lane: int, colours: dict[str, str]) -> list[go.Scatter]:
    shapes = {"load": "triangle-up", "migrate": "diamond", "evict": "triangle-down"}
    return [
        go.Scatter(
            x=part["time_s"].to_numpy() * clock.factor,
            y=np.full(part.height, top * (1.06 if kind == "evict" else 1.14)),
            yaxis=f"y{lane}",
            mode="markers",
            marker={"symbol": shape, "size": 7, "color": [colours.get(m, "var(--ink)") for m in part["model"]]},
            customdata=np.column_stack(
                [[plain(name_of(m)) for m in part["model"]], part["duration_s"].round(2).cast(pl.String)]
            ),
            hovertemplate=f"{kind} %{{customdata[0]}}, %{{customdata[1]}} s<extra></extra>",
        )
        for kind, shape in shapes.items()
        if (part := moved.filter(pl.col("kind") == kind)).height
    ]
