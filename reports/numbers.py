"""The numbers of one run's tables: percentiles with intervals, attainment, goodput. Pure arithmetic, no drawing."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import provenance, sensitivity
from reports.attainment import OBJECTIVES, Objectives, met_by_block, ratios
from reports.measured import Measured
from reports.resampling import (
    Floats,
    Tally,
    draws,
    interval,
    mean_replicates,
    quantile_replicates,
    share_replicates,
    tally,
)
from toolkit.metrics import LATENCIES

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
P999_FROM = 10_000  # requests; below, P99.9 is a handful of values
CURVE = np.unique(np.concatenate([np.linspace(0, 0.9, 46), 1 - np.geomspace(0.1, 1e-6, 101)]))
SHIFT = np.unique(np.concatenate([np.linspace(0.05, 0.95, 37), 1 - np.geomspace(0.05, 0.001, 24)]))
LEVELS = np.unique(np.concatenate([CURVE, SHIFT, list(PERCENTILES.values())]))  # all that is ever asked for
SEED = 20_001


@dataclass(frozen=True)
class Statistics:
    """One run, counted once: everything the page and the comparison need is read from here."""

    run: Measured
    tallies: dict[str, Tally]
    drawn: Floats  # (replicates, blocks); the same for every run with as many blocks
    replicates: dict[str, Floats]  # metric -> (replicates, LEVELS)
    met: dict[str, tuple[Floats, Floats]]  # objective -> met and asked, a block
    used: dict[str, Any]  # objective -> the share of it each request used (polars Series)

    def curve_levels(self, metric: str) -> Floats:
        """The levels a curve of `metric` can show: up to the last request."""
        n = self.tallies[metric].n
        return CURVE[1 - 1 / n >= CURVE] if n > 1 else CURVE[:0]

    def drawn_quantiles(self, metric: str, levels: Floats) -> Floats:
        """The replicates of the quantiles at some of LEVELS."""
        return self.replicates[metric][:, np.searchsorted(LEVELS, levels)]


def statistics(run: Measured, objectives: Objectives) -> Statistics:
    block_of = run.block_of()
    used = ratios(run.frame, objectives)
    met = {name: met_by_block(used[name], block_of) for name in (*OBJECTIVES, "joint")}
    tallies = {metric: tally(run.values(metric), block_of) for metric in LATENCIES}
    drawn = draws(int(block_of[-1]) + 1, seed=SEED)
    replicates = {metric: quantile_replicates(counted, drawn, LEVELS) for metric, counted in tallies.items()}
    return Statistics(run, tallies, drawn, replicates, met, used.to_dict())


def run_numbers(stats: Statistics) -> dict[str, Any]:
    """What `--json` prints for a run; null where undefined or, for P99.9, below 10,000 requests."""
    run, frame = stats.run, stats.run.frame
    statuses = {str(s): int(n) for s, n in frame["status"].value_counts(sort=True).iter_rows()}
    span = run.span_s
    numbers = {
        "name": run.run.name,
        "run_id": run.info.get("run_id"),
        "path": str(run.run.path),
        "state": run.info.get("state"),
        "verdict": run.info.get("verdict"),
        "requests": frame.height,
        "warm_up": run.warm_up,
        "ok": statuses.get("ok", 0),
        "failed": {s: n for s, n in statuses.items() if s != "ok"},
        "span_s": span,
        "throughput_per_s": statuses.get("ok", 0) / span if span else None,
        "metrics": {metric: _metric_numbers(stats, metric) for metric in LATENCIES},
        "attainment": {name: _share(stats, name) for name in stats.met},
        "goodput_per_s": goodput(stats),
        "utilisation": run.info.get("utilisation"),
        "limits": provenance.value(run.info, "engine", "limits"),
    }
    return numbers | {"near_saturation": sensitivity.near_saturation(numbers)}


def _metric_numbers(stats: Statistics, metric: str) -> dict[str, Any]:
    counted = stats.tallies[metric]
    levels = np.array(list(PERCENTILES.values()))
    values = counted.quantiles(levels)
    low, high = interval(stats.drawn_quantiles(metric, levels))
    mean_low, mean_high = interval(mean_replicates(counted, stats.drawn))
    found: dict[str, Any] = {"n": counted.n, "mean": estimate(counted.mean, mean_low, mean_high)}
    for i, name in enumerate(PERCENTILES):
        enough = name != "p99_9" or counted.n >= P999_FROM
        found[name] = estimate(values[i], low[i], high[i]) if enough else None
    shown = {name: level for name, level in PERCENTILES.items() if found[name]}
    moved = sensitivity.percentiles(sensitivity.curves(stats.run, metric), shown)
    return found | {"max": finite(counted.ordered[-1]) if counted.n else None, "step_time": moved}


def _share(stats: Statistics, name: str) -> dict[str, Any] | None:
    met, asked = stats.met[name]
    if not asked.sum():
        return None
    low, high = interval(share_replicates(met, asked, stats.drawn))
    found = estimate(met.sum() / asked.sum(), low, high)
    return (found or {}) | {"met": int(met.sum()), "requests": int(asked.sum())}


def goodput(stats: Statistics) -> float | None:
    """Requests a second that met every objective they had; null where none had one."""
    met, asked = stats.met["joint"]
    span = stats.run.span_s
    return float(met.sum() / span) if asked.sum() and span else None


def estimate(value: Any, low: Any, high: Any) -> dict[str, float | None] | None:
    if finite(value) is None:
        return None
    return {"value": finite(value), "low": finite(low), "high": finite(high)}


def finite(value: Any) -> float | None:
    """The value as a float, null where it is not a number."""
    return float(value) if np.isfinite(value) else None
