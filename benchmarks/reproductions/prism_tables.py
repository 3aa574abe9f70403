"""Tables and figures of Prism's studies from SWEEP rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from benchmarks.reproductions.drawing import Line, lines
from benchmarks.reproductions.tables import Estimate, over_seeds

Row = dict[str, Any]
TARGET = 0.99


def policy(row: Row) -> str:
    """A placement, with its arbiter where there is one."""
    scheduler = row["scheduler"].partition(":")[0]
    return row["placement"] if scheduler == "fcfs" else f"{row['placement']} + {scheduler}"


def estimates(rows: pl.DataFrame, axis: str, metric: str) -> dict[str, dict[float, Estimate]]:
    """Policy -> value of `axis` -> `metric` over seeds; a point that could not be replayed attains nothing."""
    found: dict[str, dict[float, Estimate]] = {}
    named = rows.with_columns(policy=pl.Series([policy(r) for r in rows.iter_rows(named=True)]))
    values = named.with_columns(value=pl.col(metric).fill_null(0.0))
    for (name, at), group in values.group_by("policy", axis, maintain_order=True):
        found.setdefault(str(name), {})[float(at)] = over_seeds(group["value"].to_list())  # type: ignore[arg-type]
    return found


def attainments(rows: pl.DataFrame, axis: str, label: str) -> list[Row]:
    """A row a policy: TTFT / TPOT attainment in per cent at each value of `axis`; ρ above."""
    first, second = (estimates(rows, axis, f"attainment_{name}") for name in ("ttft", "tpot"))
    rho = rows.group_by(axis).agg(pl.col("utilisation").mean()).sort(axis)
    head: Row = {"policy": "load ρ"}
    head |= {f"{label} {at:g}": round(r, 2) if r is not None else "unknown" for at, r in rho.iter_rows()}
    return [head, *(_line(name, first[name], second[name], label, rho[axis].to_list()) for name in first)]


def _line(name: str, ttft: dict[float, Estimate], tpot: dict[float, Estimate], label: str, at: Sequence[float]) -> Row:
    row: Row = {"policy": name}
    for value in at:
        known = value in ttft
        row[f"{label} {value:g}"] = f"{attained(ttft[value])} / {attained(tpot[value])}" if known else "not tried"
    return row


def attained(found: Estimate) -> str:
    """A share in per cent, with half its interval."""
    half = "" if np.isnan(found.low) else f"±{100 * (found.mean - found.low):.1f}"
    return f"{100 * found.mean:.1f}{half}"


def figure(rows: pl.DataFrame, axis: str, title: str, x: str, *, log_x: bool = False) -> str:
    """TTFT attainment by policy along `axis`."""
    series = []
    for name, found in estimates(rows, axis, "attainment_ttft").items():
        at = sorted(found)
        mean, low, high = ([100 * getattr(found[a], part) for a in at] for part in ("mean", "low", "high"))
        series.append(Line(name, at, mean, low, high))
    return lines(title, x, "requests whose first token is in time (%)", series, log_x=log_x)


def highest(rows: pl.DataFrame, metric: str) -> dict[str, float]:
    """The highest load at which each policy still has 99 %, linear between loads that were tried; 0: none of them."""
    return {name: _crossing(found) for name, found in estimates(rows, "load", metric).items()}


def _crossing(found: dict[float, Estimate]) -> float:
    best = 0.0
    for at in sorted(found):
        if found[at].mean >= TARGET:
            best = at
        elif best == 0:
            return 0.0  # what less load would attain was not tried
        else:
            above, below = found[best].mean, found[at].mean
            return best + (at - best) * (above - TARGET) / (above - below)
    return best


def fewest(rows: pl.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """The fewest GPUs tried at which each policy has 99 % of all `metrics`; NaN: none."""
    each = [estimates(rows, "gpus", metric) for metric in metrics]
    made = {}
    for name in each[0]:
        enough = [g for g in each[0][name] if all(e[name][g].mean >= TARGET for e in each)]
        made[name] = min(enough, default=float("nan"))
    return made


def moves(rows: pl.DataFrame) -> list[Row]:
    """What each policy moved: means over seeds."""
    named = rows.with_columns(policy=pl.Series([policy(r) for r in rows.iter_rows(named=True)]))
    columns = ("attainment_ttft", "attainment_tpot", "ttft_p99_s", "loads", "evictions", "migrations", "preemptions")
    found = named.group_by("policy", maintain_order=True).agg(
        pl.col("utilisation").mean().alias("load ρ"), *(pl.col(c).cast(pl.Float64).mean() for c in columns)
    )
    return [
        {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in found.iter_rows(named=True)
    ]
