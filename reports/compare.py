"""Differences between runs with their intervals. Pure arithmetic, no drawing."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from reports.measured import Measured
from reports.numbers import LEVELS, P999_FROM, PERCENTILES, SEED, SHIFT, Statistics, finite
from reports.resampling import (
    Floats,
    draws,
    interval,
    mean_replicates,
    quantile_replicates,
    ratio,
    share_replicates,
)
from toolkit.metrics import LATENCIES

CLOCK_S = 1e-6  # what a clock may make of the same instant
COMPARED = ("p50", "p90", "p99", "p99_9")


def same_trace(a: Measured, b: Measured) -> bool:
    """Whether both runs were offered the same requests at the same times, so that they can be paired by request_id."""
    names = ["request_id", "prompt_tokens"]
    if a.frame.height != b.frame.height or not a.frame.select(names).equals(b.frame.select(names)):
        return False
    apart = a.frame["arrival_s"] - b.frame["arrival_s"]
    return apart.null_count() == 0 and bool((apart.abs() <= CLOCK_S).all())


def comparison(base: Statistics, others: list[Statistics]) -> dict[str, Any]:
    """What `--json` prints: every other run against `base`, differences sorted by size within a run."""
    return {"base": base.run.label, "runs": [_against(base, other) for other in others]}


def _against(base: Statistics, other: Statistics) -> dict[str, Any]:
    paired = same_trace(base.run, other.run)
    drawn = other if paired else redrawn(other)
    rows = [row for metric in LATENCIES for row in _metric_rows(base, drawn, metric)]
    rows += [row for name in base.met if (row := _attainment_row(base, drawn, name))]
    rows.sort(key=lambda r: (not r["shown"], -_size(r)))
    return {"name": other.run.label, "paired": paired, "differences": rows}


def _size(row: dict[str, Any]) -> float:
    """How far apart two values are as a factor, so that a half and a double are equally far."""
    base, value = row["base"], row["value"]
    return abs(math.log(value / base)) if base and value and value / base > 0 else math.inf


def redrawn(stats: Statistics) -> Statistics:
    """The same run with other blocks drawn, independent of the base's."""
    drawn = draws(stats.drawn.shape[1], seed=SEED + 1)
    replicates = {metric: quantile_replicates(counted, drawn, LEVELS) for metric, counted in stats.tallies.items()}
    return replace(stats, drawn=drawn, replicates=replicates)


def _metric_rows(base: Statistics, other: Statistics, metric: str) -> list[dict[str, Any]]:
    a, b = base.tallies[metric], other.tallies[metric]
    if not (a.n and b.n):
        return []
    names = [n for n in COMPARED if n != "p99_9" or min(a.n, b.n) >= P999_FROM]
    levels = np.array([PERCENTILES[n] for n in names])
    pairs = zip(
        names,
        a.quantiles(levels),
        b.quantiles(levels),
        base.drawn_quantiles(metric, levels).T,
        other.drawn_quantiles(metric, levels).T,
        strict=True,
    )
    rows = [_row(metric, *pair) for pair in pairs]
    mean = _row(metric, "mean", a.mean, b.mean, mean_replicates(a, base.drawn), mean_replicates(b, other.drawn))
    return [*rows, mean]


def _attainment_row(base: Statistics, other: Statistics, name: str) -> dict[str, Any] | None:
    (met_a, asked_a), (met_b, asked_b) = base.met[name], other.met[name]
    if not (asked_a.sum() and asked_b.sum()):
        return None
    a, b = met_a.sum() / asked_a.sum(), met_b.sum() / asked_b.sum()
    replicates = share_replicates(met_a, asked_a, base.drawn), share_replicates(met_b, asked_b, other.drawn)
    return _row("attainment", name, a, b, *replicates)


def _row(metric: str, statistic: str, a: float, b: float, drawn_a: Floats, drawn_b: Floats) -> dict[str, Any]:
    low, high = interval(drawn_b - drawn_a)
    relative_low, relative_high = interval(ratio(drawn_b, drawn_a) - 1)
    return {
        "metric": metric,
        "statistic": statistic,
        "base": finite(a),
        "value": finite(b),
        "difference": finite(b - a),
        "low": finite(low),
        "high": finite(high),
        "relative": finite(b / a - 1) if a else None,
        "relative_low": finite(relative_low),
        "relative_high": finite(relative_high),
        "shown": bool(low > 0 or high < 0),
    }


def shift(base: Statistics, other: Statistics, metric: str) -> dict[str, Floats]:
    """The difference at each percentile with its band: arrays level, difference, low, high."""
    a, b = base.tallies[metric], other.tallies[metric]
    enough = min(a.n, b.n)
    levels = SHIFT[1 - 5 / enough >= SHIFT] if enough > 5 else SHIFT[:0]
    drawn = other if same_trace(base.run, other.run) else redrawn(other)
    low, high = interval(drawn.drawn_quantiles(metric, levels) - base.drawn_quantiles(metric, levels))
    return {"level": levels, "difference": b.quantiles(levels) - a.quantiles(levels), "low": low, "high": high}


def find(rows: list[dict[str, Any]], metric: str, statistic: str) -> dict[str, Any] | None:
    """The row of one difference."""
    return next((r for r in rows if (r["metric"], r["statistic"]) == (metric, statistic)), None)
