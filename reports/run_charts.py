"""The run page's charts: numbers in, charts with the line under them and the rows behind them out."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports import attainment, figures, groups, overtime, sensitivity, time_figures, words
from reports.attainment import Objectives
from reports.compare import shift
from reports.groups import Split
from reports.measured import Measured
from reports.numbers import Statistics
from reports.page import Chart
from reports.resampling import Floats, interval
from reports.sensitivity import INNER, SCALES, Curves
from reports.words import TITLES, Unit, named, percent
from toolkit.metrics import LATENCIES


def tails(stats: list[Statistics], units: dict[str, Unit], objectives: Objectives) -> list[Chart]:
    """One tail chart a metric that anything is known of."""
    known = [m for m in LATENCIES if any(s.tallies[m].n > 1 for s in stats)]
    return [_tail(stats, m, units[m], objectives) for m in known]


def _tail(stats: list[Statistics], metric: str, unit: Unit, objectives: Objectives) -> Chart:
    scales = SCALES if len(stats) <= BOTH_BANDS else INNER
    lines = [_tail_line(i, s, metric, scales) for i, s in enumerate(stats)]
    slo = objectives.fixed(metric.removesuffix("_s"), stats[0].run.frame) if metric in SLO_METRICS else None
    return Chart(
        name=f"tail-{metric}",
        title=f"Share of requests with a longer {named(metric)}, both axes logarithmic",
        note=_tail_note(lines, unit, metric, slo),
        figure=figures.tail(lines, unit, TITLES[metric], slo),
        data=pl.concat([_tail_rows(each, metric) for each in lines]),
        height=440,
        tab=TITLES[metric],
    )


SLO_METRICS = ("ttft_s", "tpot_s", "e2e_s")
P99 = 0.99
BOTH_BANDS = 3  # runs; with more, the band of 10 % of step time would hide them


def _tail_line(index: int, stats: Statistics, metric: str, scales: tuple[float, ...]) -> figures.TailLine:
    levels = stats.curve_levels(metric)
    counted = stats.tallies[metric]
    low, high = interval(stats.drawn_quantiles(metric, levels))
    steps = _steps(stats, metric, scales)
    return figures.TailLine(stats.run.label, index, levels, counted.quantiles(levels), low, high, steps)


def _steps(stats: Statistics, metric: str, scales: tuple[float, ...]) -> Curves:
    """The curves of these step times, up to the last request."""
    last = 1 - 1 / max(1, stats.tallies[metric].n)
    found = sensitivity.curves(stats.run, metric)
    return {s: (at[at <= last], values[at <= last]) for s, (at, values) in found.items() if s in scales}


def _tail_rows(each: figures.TailLine, metric: str) -> pl.DataFrame:
    """The line and its interval, then the same under other step times, which have none."""
    own = {"level": each.levels, metric: each.values, "low": each.low, "high": each.high}
    parts = [(1.0, own)] + [(s, {"level": at, metric: values}) for s, (at, values) in each.steps.items()]
    scaled = [pl.DataFrame(rows).with_columns(step_time_scale=pl.lit(s)) for s, rows in parts]
    return pl.concat(scaled, how="diagonal").select(pl.lit(each.label).alias("run"), pl.all())


def _tail_note(lines: list[figures.TailLine], unit: Unit, metric: str, slo: float | None) -> str:
    parts = []
    for each in lines[:3]:
        if _reaches_p99(each):
            p50, p99 = np.interp([0.5, 0.99], each.levels, each.values)
            who = f"{each.label}: " if len(lines) > 1 else ""
            one = "one request" if who else "One request"
            times = f", {words.number(p99 / p50)} times its P50" if p50 > 0 else ""
            parts.append(f"{who}{one} in a hundred takes longer than {unit.spell(p99)}{times}")
    said = "; ".join(parts) + "." if parts else "Too few requests for a P99."
    red = f" The red line is the SLO of {unit.spell(slo)}." if slo is not None else ""
    return f"{said} Shaded: 95 % bootstrap band.{_step_note(lines, unit, metric)}{red}"


def _reaches_p99(each: figures.TailLine) -> bool:
    """Whether there are requests enough; a run of one or none has no line at all."""
    return len(each.levels) > 0 and bool(each.levels[-1] >= P99)


def _step_note(lines: list[figures.TailLine], unit: Unit, metric: str) -> str:
    if not any(each.steps for each in lines):
        return ""
    slower = [(each, each.steps[INNER[1]]) for each in lines if INNER[1] in each.steps and _reaches_p99(each)]
    values = [
        (each.label if len(lines) > 1 else "", _at(P99, *curve), _at(P99, each.levels, each.values))
        for each, curve in slower
    ]
    return sensitivity.note(values, metric, unit, outer=len(lines) <= BOTH_BANDS)


def _at(level: float, levels: Floats, values: Floats) -> float:
    return float(np.interp(level, levels, values))


def shifts(stats: list[Statistics], units: dict[str, Unit]) -> list[Chart]:
    """The difference of every run to the first at each percentile, one chart a metric."""
    known = [m for m in LATENCIES if all(s.tallies[m].n > 20 for s in stats)]
    return [_shift(stats, m, units[m]) for m in known] if len(stats) > 1 else []


def _shift(stats: list[Statistics], metric: str, unit: Unit) -> Chart:
    lines = [(i, s.run.label, shift(stats[0], s, metric)) for i, s in enumerate(stats) if i]
    rows = [pl.DataFrame(data).select(pl.lit(label).alias("run"), pl.all()) for _, label, data in lines]
    return Chart(
        name=f"shift-{metric}",
        title=f"Difference in {named(metric)} to {stats[0].run.label} at each percentile",
        note=_shift_note(lines, metric, stats[0].run.label),
        figure=figures.shift(lines, unit, TITLES[metric]),
        data=pl.concat(rows),
        height=340,
        tab=TITLES[metric],
    )


def _shift_note(lines: list[tuple[int, str, dict[str, Floats]]], metric: str, base: str) -> str:
    parts = []
    for _, label, data in lines[:3]:
        better, worse = data["high"] < 0, data["low"] > 0
        ranges = [
            f"{word} {_where(data['level'], which)}"
            for word, which in (("faster", better), ("slower", worse))
            if which.any()
        ]
        parts.append(
            f"{label} is {' and '.join(ranges)}" if ranges else f"{label}: no difference shown at any percentile"
        )
    return f"Below zero is faster than {base}. {'; '.join(parts)} (where the band leaves zero out)."


def _where(levels: Floats, which: NDArray[np.bool_]) -> str:
    chosen = np.flatnonzero(which)
    low, high = (f"P{levels[i] * 100:.4g}" for i in (chosen[0], chosen[-1]))
    if low == high:
        return f"at {low}"
    return f"from {low} to {high}" if len(chosen) == chosen[-1] - chosen[0] + 1 else f"in parts of {low} to {high}"


def scale_curves(stats: list[Statistics]) -> list[Chart]:
    """Attainment of all objectives together against their scale."""
    lines = [(i, s.run.label, attainment.scale_curve(s.used["joint"])) for i, s in enumerate(stats)]
    lines = [each for each in lines if not np.isnan(each[2]).all()]
    if not lines:
        return []
    data = pl.concat(
        [pl.DataFrame({"run": [label] * len(y), "scale": attainment.SCALES, "share": y}) for _, label, y in lines]
    )
    return [
        Chart(
            name="attainment",
            title="Share of offered requests that would meet objectives a number of times as long",
            note=_scale_note(lines),
            figure=figures.attainment(lines, attainment.SCALES),
            data=data,
            height=320,
        )
    ]


def _scale_note(lines: list[tuple[int, str, Floats]]) -> str:
    parts = []
    for _, label, shares in lines[:3]:
        reached = attainment.SCALES[shares >= 0.99]
        who = f"{label} reaches" if len(lines) > 1 else "The run reaches"
        parts.append(
            f"{who} 99 % at {reached[0]:.2g} × the SLO"
            if len(reached)
            else f"{who} {percent(float(shares[-1]))} at 10 × the SLO"
        )
    return "; ".join(parts) + ". Requests that failed miss at any scale."


def over_time(runs: list[Measured], unit: Unit) -> list[Chart]:
    """Everything along time, on one axis."""
    start, end = overtime.span_of(runs)
    width = overtime.bin_width(end - start)
    tables = [(i, r.label, overtime.over_time(r, start, width)) for i, r in enumerate(runs)]
    marks = [(i, overtime.event_marks(r, start, width)) for i, r in enumerate(runs) if r.events.height]
    data = pl.concat([t.select(pl.lit(label).alias("run"), pl.all()) for _, label, t in tables])
    clock = time_figures.time_unit(end - start)
    return [
        Chart(
            name="over-time",
            title="Latency, arrivals, queue, running requests and KV use over time",
            note=f"{_time_note(tables, unit, clock)} A point is {words.duration(width)}; drag to zoom all rows, "
            "double-click to go back.",
            figure=time_figures.over_time(tables, marks, unit, clock),
            data=data,
            height=900 if marks else 820,
        )
    ]


def _time_note(tables: list[tuple[int, str, pl.DataFrame]], unit: Unit, clock: Unit) -> str:
    parts = []
    for _, label, table in tables[:3]:
        worst = table.drop_nulls("e2e_p99").sort("e2e_p99", descending=True).head(1)
        if worst.height:
            row = worst.row(0, named=True)
            who = f"{label}: " if len(tables) > 1 else ""
            queue = "" if row["queue"] is None else f", with {words.number(row['queue'])} requests queued"
            parts.append(f"{who}P99 E2E peaks at {unit.spell(row['e2e_p99'])} at {clock.spell(row['time_s'])}{queue}")
    return "; ".join(parts) + "." if parts else "No request completed."


def heats(runs: list[Measured], split: Split | None, harm: str, unit: Unit) -> list[Chart]:
    """Model by time, one chart a run."""
    models = split.order[: groups.ROWS] if split else []
    if not models:
        return []
    start, end = overtime.span_of(runs)
    clock = time_figures.time_unit(end - start)
    return [_heat(i, r, models, harm, unit, clock, (start, end)) for i, r in enumerate(runs)]


def _heat(
    index: int, run: Measured, models: list[str | None], harm: str, unit: Unit, clock: Unit, span: tuple[float, float]
) -> Chart:
    table = groups.heat(run, harm, models, span[0], span[1] - span[0])
    return Chart(
        name=f"heat-{index}",
        title=f"P99 {named(harm)} by model and time, {run.label}",
        note=f"{_heat_note(table, harm, unit, clock)} Blank: fewer than {groups.FEW} completed or none.",
        figure=time_figures.heat(table, models, unit, clock, f"P99 {named(harm)}"),
        data=table,
        height=110 + 26 * len(models),
        tab=run.label,
    )


def _heat_note(table: pl.DataFrame, harm: str, unit: Unit, clock: Unit) -> str:
    worst = table.drop_nulls("p99").sort("p99", descending=True).head(1)
    if worst.is_empty():
        return "No model has enough requests in any interval."
    row = worst.row(0, named=True)
    name = time_figures.name_of(row["model"])
    return f"Worst: {name} at {clock.spell(row['time_s'])}, P99 {named(harm)} {unit.spell(row['p99'])}."


def panels(stats: list[Statistics], split: Split, unit: Unit) -> list[Chart]:
    """A small tail chart a group, worst first, on the same axes; none for a group of which no request completed."""
    runs = [s.run for s in stats]
    shown = [g for g in split.order if any(g in tails for tails in split.tails)][: groups.PANELS]
    tails = [{g: groups.tail_of(each[g]) for g in shown if g in each} for each in split.tails]
    lines = {
        g: [(i, run.label, *tail[g]) for i, (run, tail) in enumerate(zip(runs, tails, strict=True)) if g in tail]
        for g in shown
    }
    every = stats[0].tallies[split.harm].ordered
    context = groups.tail_of(every)
    known = [part for each in lines.values() for _, _, v, _ in each if len(part := v[v > 0])] + [
        context[0][context[0] > 0]
    ]
    known = [k for k in known if len(k)] or [np.array([1.0])]
    low, high = (float(np.log10(f([f(k) for k in known]) * unit.factor)) for f in (min, max))
    ranges = ([low - 0.05, high + 0.1], [-4.1 if len(every) > 5_000 else -3.1, 0.1])
    return [
        Chart(
            name=f"panel-{split.name}-{i}",
            title=f"Tail of {named(split.harm)}, {groups.TITLES[split.name]} {time_figures.name_of(group)}",
            note="Grey: all requests of the first run.",
            figure=time_figures.panel(lines[group], context, ranges, unit),
            data=pl.concat(
                [pl.DataFrame({"run": [label] * len(v), split.harm: v, "above": a}) for _, label, v, a in lines[group]]
            ),
            height=170,
            tab=time_figures.name_of(group),
        )
        for i, group in enumerate(shown)
    ]
