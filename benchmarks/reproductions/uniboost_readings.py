"""What the figures of UniBoost's reproduction come to, in words for its page."""

import polars as pl

from benchmarks.reproductions.tables import markdown
from benchmarks.reproductions.uniboost_claims import FULL, GUARD, at_loads
from benchmarks.reproductions.uniboost_tables import Cell, above, below, cells, change, estimate, policies, ratio

AS_GOOD = 1.05  # times FCFS's P99 TTLT: no worse than that


def squarely(loads: pl.DataFrame) -> dict[str, str]:
    """What the gain over TRAIL+ is made of, and what it costs."""
    every = list(cells(loads, "loads"))
    tail = _lower(every, "ttlt_p99", FULL, "TRAIL+")
    costs = [ratio(cell, "ttlt_mean", FULL, "TRAIL+").mean for _where, cell in every]
    light = [cell for where, cell in every if where[2] < 0.9 and where[0].startswith("mix")]
    calm = [ratio(cell, "ttlt_p99", FULL, "TRAIL+").mean for cell in light]
    return {
        "count": str(len(every)),
        "tail": _told(tail),
        "also": f"{len(_lower(tail, 'ttlt_p99', 'FCFS', 'TRAIL+'))} of these {len(tail)}",
        "better": _told(_lower(every, "ttlt_p99", FULL, "FCFS")),
        "worse": _told([one for one in every if above(ratio(one[1], "ttlt_p99", FULL, "FCFS"))]),
        "margin": _range([ratio(cell, "ttlt_p99", FULL, "FCFS").mean for _where, cell in every]),
        "sooner": _told(_lower(every, "ttft_p99", FULL, "FCFS")),
        "costlier": str(sum(above(ratio(cell, "ttlt_mean", FULL, "TRAIL+")) for _where, cell in every)),
        "cost": _range(costs),
        "light": _range(calm or [1.0]),
    }


def rarest(found: pl.DataFrame) -> str:
    """P99 and P99.9 TTLT against TRAIL+'s; no P99.9 where there are too few requests."""
    rows = []
    for (workload, engine, rho), cell in cells(found, "detail"):
        row: dict[str, object] = {"workload": workload, "engine": engine, "ρ": rho}
        for metric, said in (("ttlt_p99", "P99"), ("ttlt_p999", "P99.9")):
            known = cell[metric].null_count() == 0
            for name, policy in (("UniBoost", FULL), ("FCFS", "FCFS")):
                row[f"{said} TTLT, {name}"] = change(ratio(cell, metric, policy, "TRAIL+")) if known else None
        rows.append(row)
    return markdown(rows)


def constants(found: pl.DataFrame) -> list[str]:
    """Of the constants that were tried, the one with the least mean TTLT whose P99 TTLT is no worse than FCFS's."""
    lines = []
    for (workload, engine, rho), cell in cells(found, "open"):
        fit = [name for name in policies(cell) if ratio(cell, "ttlt_p99", name, "FCFS").mean <= AS_GOOD]
        best = min(fit, key=lambda name: estimate(cell, "ttlt_mean", name).mean)
        changes = ", ".join(
            f"{said} {_percent(ratio(cell, metric, best, 'FCFS').mean)}"
            for metric, said in (("ttlt_mean", "mean TTLT"), ("ttlt_p99", "P99 TTLT"), ("ttft_p99", "P99 TTFT"))
        )
        lines.append(f"{workload}, {engine}, ρ = {rho:g}: **{best}**; to FCFS, {changes}.")
    return lines


def mistakes(found: pl.DataFrame) -> list[str]:
    """With which beliefs SRPT is still better than FCFS in the tail, and than UniBoost in the mean."""
    lines = []
    for (workload, engine, rho), cell in cells(found, "wrong"):
        names = [name for name in policies(cell) if name not in ("FCFS", GUARD)]
        tail = [name for name in names if below(ratio(cell, "ttlt_p99", name, "FCFS"))]
        mean = [name for name in names if below(ratio(cell, "ttlt_mean", name, GUARD))]
        lines.append(
            f"{workload}, {engine}, ρ = {rho:g}: SRPT's P99 TTLT is below FCFS's with {_listed(tail)}; "
            f"its mean TTLT is below UniBoost MemGuard's with {_listed(mean)}."
        )
    return lines


def _lower(every: list[Cell], metric: str, policy: str, other: str) -> list[Cell]:
    return [one for one in every if below(ratio(one[1], metric, policy, other))]


def _told(found: list[Cell]) -> str:
    return f"**{len(found)}**{at_loads([where[2] for where, _cell in found])}"


def _percent(factor: float) -> str:
    return f"{round(100 * (factor - 1)) or 0:+d} %"


def _range(factors: list[float]) -> str:
    return f"{_percent(min(factors))} … {_percent(max(factors))}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none of them"
