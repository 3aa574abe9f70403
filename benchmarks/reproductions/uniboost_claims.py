"""UniBoost's claims, each judged by what was measured: in which cells it holds."""

from dataclasses import dataclass

import polars as pl

from benchmarks.reproductions.tables import Estimate, markdown
from benchmarks.reproductions.uniboost_saturation import shifts
from benchmarks.reproductions.uniboost_tables import Cell, above, below, cells, change, ratio

FULL, GUARD, BASE = "UniBoost γ-Ada slope", "UniBoost MemGuard", "UniBoost base"


@dataclass(frozen=True)
class Claim:
    """`policy`'s metric over `other`'s, which the paper puts at `weakest` or further from 1 (a ratio)."""

    text: str
    metric: str
    policy: str
    other: str
    weakest: float


@dataclass(frozen=True)
class Found:
    """A ratio in one cell."""

    where: tuple[str, str, float]
    ratio: Estimate

    @property
    def text(self) -> str:
        workload, engine, rho = self.where
        return f"{change(self.ratio)}: {workload}, {engine}" + (f", ρ = {rho:g}" if rho else "")


CLAIMS = (
    Claim("P99 TTLT −35 … −50 % to TRAIL+", "ttlt_p99", FULL, "TRAIL+", 0.65),
    Claim("P99 TTFT −34 … −47 % to TRAIL+", "ttft_p99", FULL, "TRAIL+", 0.66),
    Claim("P95 TTFT −34 … −97 % to TRAIL+", "ttft_p95", FULL, "TRAIL+", 0.66),
    Claim("throughput 1.01 … 1.12× TRAIL+'s", "tokens_per_s", FULL, "TRAIL+", 1.01),
    Claim("TTLT threshold at 99 % tighter than TRAIL+'s by 1.7 … 4.3×", "ttlt_p99", FULL, "TRAIL+", 1 / 1.7),
    Claim("TTFT threshold at 99 % tighter than TRAIL+'s by 2.9 … 8.7×", "ttft_p99", FULL, "TRAIL+", 1 / 2.9),
    Claim("phase 2 halves DistBoost's P99 TTLT", "ttlt_p99", BASE, "DistBoost", 0.5),
    Claim("MemGuard lowers phase 2's P99 TTLT by a further 1.5 … 2×", "ttlt_p99", GUARD, BASE, 1 / 1.5),
    Claim("P99 TTLT up to 10× below MLFQ+'s near saturation (counted from 2×)", "ttlt_p99", FULL, "MLFQ+", 0.5),
    Claim("(ours) P99 TTLT at least 5 % below FCFS's", "ttlt_p99", FULL, "FCFS", 0.95),
    Claim("(ours) P99 TTFT at least 5 % below FCFS's", "ttft_p99", FULL, "FCFS", 0.95),
)
PAPER = {
    "ttlt_mean": ("mean TTLT", "+19.1 %"),
    "ttlt_p95": ("P95 TTLT", "−1.1 %"),
    "ttlt_p99": ("P99 TTLT", "−35.1 %"),
    "ttft_p95": ("P95 TTFT", "−97.4 %"),
    "ttft_p99": ("P99 TTFT", "−34.0 %"),
    "tpot_p99": ("P99 TBT; ours: P99 TPOT", "−33.8 %"),
    "tokens_per_s": ("throughput", "+1 … +12 %"),
}


def judged(loads: pl.DataFrame) -> str:
    """A table: each claim, its verdict, and where it was best and worst."""
    rows = []
    for claim in CLAIMS:
        found = [Found(where, ratio(cell, claim.metric, claim.policy, claim.other)) for where, cell in _cells(loads)]
        rows.append(_row(claim.text, found, claim.weakest))
    moved = [Found((*where, 0.0), shift) for where, shift in shifts(loads, FULL, GUARD)]
    return markdown([*rows, _row("γ-Ada moves MemGuard's saturation up by 4 … 6 %", moved, 1.04)])


def _row(text: str, found: list[Found], weakest: float) -> dict[str, object]:
    up = weakest > 1
    right = [one for one in found if (above if up else below)(one.ratio)]
    large = [one for one in right if (one.ratio.mean >= weakest if up else one.ratio.mean <= weakest)]
    ordered = sorted(found, key=lambda one: one.ratio.mean, reverse=up)
    return {
        "claim": text,
        "verdict": _verdict(large, len(found)),
        "in that direction": f"{len(right)} of {len(found)}",
        "as much or more": f"{len(large)} of {len(found)}",
        "best": ordered[0].text if ordered else None,
        "worst": ordered[-1].text if ordered else None,
    }


def _verdict(large: list[Found], count: int) -> str:
    if not count:
        return "cannot be told: no replay came to saturation"
    if not large:
        return "**does not hold**"
    return "**holds**" if len(large) == count else f"**holds under conditions**: {_conditions(large)}"


def _conditions(large: list[Found]) -> str:
    """The cells, those of a workload and an engine together."""
    loads: dict[tuple[str, str], list[float]] = {}
    for one in large:
        loads.setdefault(one.where[:2], []).append(one.where[2])
    return "; ".join(f"{', '.join(where)}{at_loads(rhos)}" for where, rhos in loads.items())


def at_loads(rhos: list[float]) -> str:
    """Where: the loads in brackets, nothing where there are none."""
    known = ", ".join(f"{rho:g}" for rho in sorted(set(rhos)) if rho)
    return f" (ρ = {known})" if known else ""


def paper_table(loads: pl.DataFrame) -> str:
    """Llama-3-8B on mix-2: the paper's changes against TRAIL+ beside ours at every load, and FCFS's."""
    rows = []
    here = [(where[2], cell) for where, cell in _cells(loads) if where[:2] == ("mix-2", "memory-rich")]
    for metric, (name, said) in PAPER.items():
        for policy in (FULL, GUARD, "FCFS"):
            row = {"metric": name, "paper": said if policy == FULL else "", "policy": policy}
            rows.append(row | {f"ρ = {rho:g}": change(ratio(cell, metric, policy, "TRAIL+")) for rho, cell in here})
    return markdown(rows)


def ablation(loads: pl.DataFrame) -> str:
    """The four phases on the memory-tight engine: P99 TTLT, and each phase over the one before."""
    steps = (("DistBoost", "FCFS"), (BASE, "DistBoost"), (GUARD, BASE), (FULL, GUARD), (FULL, "MLFQ+"), (FULL, "FCFS"))
    rows = []
    for (workload, engine, rho), cell in _cells(loads):
        if engine == "memory-tight":
            fcfs = cell.filter(policy="FCFS")["ttlt_p99"].mean()
            row: dict[str, object] = {"workload": workload, "ρ": rho, "FCFS P99 s": fcfs}
            rows.append(row | {f"{a} / {b}": f"{ratio(cell, 'ttlt_p99', a, b).mean:.2f}" for a, b in steps})
    return markdown(rows)


def _cells(loads: pl.DataFrame) -> list[Cell]:
    return list(cells(loads, "loads"))
