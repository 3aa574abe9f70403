"""The rows of the run page's tables, as text: the templates only place them."""

from dataclasses import dataclass, replace
from typing import Any

from reports import sensitivity, words
from reports.numbers import P999_FROM, PERCENTILES
from reports.words import Unit, unit_for
from toolkit.metrics import LATENCIES

NAMES = {"p50": "P50", "p90": "P90", "p95": "P95", "p99": "P99", "p99_9": "P99.9", "mean": "mean"}
TILES = ("ttft_s", "tpot_s", "e2e_s")
FEW = f"needs {P999_FROM // 1000}\u202f000 requests"


@dataclass(frozen=True)
class Cell:
    """A value with its interval below it, and its range within 5 % of step time; `why` replaces a value not shown."""

    text: str
    interval: str = ""
    why: str = ""
    steps: str = ""


def cell(found: dict[str, Any] | None, unit: Unit, why: str = "") -> Cell:
    if found is None or found["value"] is None:
        return Cell(words.DASH, why=why)
    if found["low"] is None:
        return Cell(unit.show(found["value"]))
    return Cell(unit.show(found["value"]), f"{unit.show(found['low'])}–{unit.show(found['high'])}")


def metric_unit(numbers: list[dict[str, Any]], metric: str) -> Unit:
    """One unit for a metric over all runs, chosen by the longest of their tails."""
    tails = [(n["metrics"][metric]["p99"] or {}).get("value") for n in numbers]
    return unit_for(metric, [max((tail for tail in tails if tail is not None), default=None)])


def metric_table(numbers: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """A metric's tile and table: one row a run."""
    unit = metric_unit(numbers, metric)
    rows = []
    for i, run in enumerate(numbers):
        found = run["metrics"][metric]
        why = {"p99_9": FEW if 0 < found["n"] < P999_FROM else ""}
        cells = {p: cell(found[p], unit, why.get(p, "")) for p in (*PERCENTILES, "mean")}
        if near := sensitivity.p99_range(found):
            cells["p99"] = replace(cells["p99"], steps="–".join(unit.show(v) for v in near))
        rows.append({"run": i, "n": words.whole(found["n"]), "cells": cells, "max": unit.show(found["max"])})
    known = any(run["metrics"][metric]["n"] for run in numbers)
    return {
        "metric": metric,
        "title": words.TITLES[metric],
        "meaning": words.MEANINGS[metric],
        "unit": unit.name,
        "rows": rows,
        "known": known,
    }


def metric_tables(numbers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [t for m in LATENCIES if (t := metric_table(numbers, m))["known"]]


def difference_rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    """One run's differences as text, the shown ones first, by size."""
    return [_difference(row) for row in run["differences"]]


def _difference(row: dict[str, Any]) -> dict[str, Any]:
    share = row["metric"] == "attainment"
    unit = Unit(100.0, "%") if share else unit_for(row["metric"], [row["base"], row["value"]])
    title = f"{row['statistic'].upper()} attainment" if share else words.named(row["metric"])
    if share and row["statistic"] == "joint":
        title = "Joint attainment"
    point = "points" if share else unit.name
    return {
        "what": title if share else f"{NAMES[row['statistic']]} {title}",
        "unit": unit.name,
        "base": unit.show(row["base"]),
        "value": unit.show(row["value"]),
        "difference": f"{words.signed(unit.show(row['difference']))} {point}".strip(),
        "interval": _span(words.signed(unit.show(row["low"])), words.signed(unit.show(row["high"]))),
        "relative": words.percent(row["relative"], signed=True),
        "relative_interval": _span(*(words.percent(row[k], signed=True) for k in ("relative_low", "relative_high"))),
        "shown": row["shown"],
    }


def _span(low: str, high: str) -> str:
    return "" if words.DASH in (low, high) else f"{low} … {high}"


def attainment_rows(numbers: list[dict[str, Any]], asked: dict[str, str]) -> list[dict[str, Any]]:
    """A row an objective, a cell a run."""
    rows = []
    for name, title in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E"), ("joint", "All of them")):
        found = [n["attainment"][name] for n in numbers]
        if any(found):
            rows.append({"title": title, "slo": asked.get(name, ""), "cells": [_share_cell(f) for f in found]})
    return rows


def _share_cell(found: dict[str, Any] | None) -> Cell:
    if found is None:
        return Cell(words.DASH)
    interval = "" if found["low"] is None else f"{words.percent(found['low'])}–{words.percent(found['high'])}"
    return Cell(words.percent(found["value"]), interval)


def failures(run: dict[str, Any]) -> str:
    """Failed requests by status, in words."""
    parts = [f"{words.whole(n)} {status}" for status, n in run["failed"].items()]
    return ", ".join(parts) if parts else "none"
