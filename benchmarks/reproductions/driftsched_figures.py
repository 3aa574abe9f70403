"""The figures of DriftSched's page: biases as they go, policies side by side, and SJF over the load."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from benchmarks.reproductions.drawing import Bars, Line, bars, lines
from benchmarks.reproductions.driftsched_runs import ENGINES, OURS, Found
from benchmarks.reproductions.tables import Estimate, over_seeds

MOST_POINTS = 200


def figures(found: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """SVG by name."""
    measures = pl.concat([case.measures for case in found["cases"]])
    made = {f"bias-{unit}": bias_figure(found["cases"], unit) for unit in ("words", "tokens")}
    made |= {
        f"{phase}-{q}": policy_figure(measures, phase, q) for phase in ("learning", "stress") for q in ("P50", "P99")
    }
    return made | {f"load-{q}": load_figure(found["loads"], q) for q in ("P50", "P99")}


def bias_figure(cases: Sequence[Found], unit: str) -> str:
    """Each category's bias after so many of its answers, the mean over seeds with its interval."""
    first = [case for case in cases if unit in case.biases and case.measures["engine"][0] == "synchronous"]
    series = []
    for kind in first[0].biases[unit]:
        paths = [case.biases[unit][kind] for case in first if case.measures["steps"][0] == "30 ms"]
        shared = min(len(path) for path in paths)
        at = np.unique(np.geomspace(1, shared, min(MOST_POINTS, shared)).astype(int)) - 1
        found = [over_seeds([path[i] for path in paths]) for i in at]
        series.append(_line(kind, (at + 1).tolist(), found))
    title = f"Bias by category, lengths counted in {unit} (synchronous engine, SJF)"
    return lines(title, "answers of the category that have ended", "bias", series, log_x=True)


def policy_figure(measures: pl.DataFrame, phase: str, quantile: str) -> str:
    """A quantile of the end-to-end time by policy, on both engines."""
    policies = (*OURS, "oracle SJF")
    series = []
    for engine in ENGINES:
        rows = measures.filter(
            (pl.col("engine") == engine) & (pl.col("phase") == phase) & (pl.col("tier") == "all"),
            pl.col("steps") == "30 ms",
            pl.col("adaptive") & (pl.col("unit") == "words"),
        )
        found = [over_seeds(rows.filter(pl.col("policy") == p)[quantile].to_list()) for p in policies]
        series.append(Bars(engine, *_ends(found)))
    return bars(f"End-to-end {quantile} of the {phase} phase", policies, "seconds", series)


def load_figure(rows: Sequence[Mapping[str, Any]], quantile: str) -> str:
    """What SJF does to a quantile against FIFO, over the load."""
    series = []
    for engine in ENGINES:
        own = [row for row in rows if row["engine"] == engine]
        for policy in ("SJF", "oracle"):
            found = [_ratio(row[f"{policy} {quantile}"]) for row in own]
            one = _line(f"{policy}, {engine}", [row["ρ"].mean for row in own], found)
            series.append(one)
    return lines(f"{quantile} under SJF over that under FIFO", "ρ", "ratio", series, log_x=True, log_y=True)


def _ratio(found: Estimate) -> Estimate:
    """A change as a ratio; where an interval goes below nothing, to a hundredth."""
    return Estimate(1 + found.mean, max(0.01, 1 + found.low), 1 + found.high)


def _line(name: str, x: Sequence[float], found: Sequence[Estimate]) -> Line:
    return Line(name, x, *_ends(found))


def _ends(found: Sequence[Estimate]) -> tuple[list[float], list[float], list[float]]:
    return [f.mean for f in found], [f.low for f in found], [f.high for f in found]
