"""DriftSched's page as Markdown: claims beside ours, tables, figures, and how it was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, StrictUndefined

from benchmarks.reproductions.driftsched_claims import CLOSE, claims
from benchmarks.reproductions.driftsched_runs import (
    BATCH,
    ENGINES,
    GPU,
    MEMORY_SHARE,
    MODEL,
    OURS,
    POLICIES,
    POLL_S,
    REST_S,
    STEP_S,
    WAIT_S,
)
from benchmarks.reproductions.driftsched_studies import DIFFER
from benchmarks.reproductions.driftsched_workload import EARLY, SHORTEST, TOPICS, WORDS_PER_TOKEN, Phase
from benchmarks.reproductions.tables import change, markdown, over_seeds, percent
from replay.schedulers.driftsched import TIERS
from toolkit.analysis.drift_estimate import ASSUMED_START_S, ASSUMED_TPOT_S
from toolkit.runs import versions

TEMPLATE = Path(__file__).with_name("driftsched_page.md.j2")
Results = Mapping[str, Sequence[Any]]


def page(found: Results, seeds: Sequence[int], phases: tuple[Phase, Phase], count: int, *, quick: bool) -> str:
    """The whole page; its words are in driftsched_page.md.j2."""
    measures = pl.concat([case.measures for case in found["cases"]])
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    return template.render(
        command="make reproduce-driftsched" + (" QUICK=--quick" if quick else ""),
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
        seeds=seeds,
        phases=phases,
        count=f"{count:,}",
        claims=markdown(claims(measures, found)),
        policies=_policies(measures),
        tiers=_tiers(measures),
        gains=markdown(_gain_rows(measures)),
        **_protocol(phases),
        **_estimates(measures, found),
        **_aging(found),
        **_traces(found),
        loads=markdown([_percents(row, "SJF P50", "SJF P99", "oracle P50", "oracle P99") for row in found["loads"]]),
    )


def _protocol(phases: tuple[Phase, Phase]) -> dict[str, object]:
    rows = [
        {
            "phase": phase.name,
            "requests": phase.requests,
            "gaps, s": f"uniform {phase.gap_s[0]:g} to {phase.gap_s[1]:g}",
            "short_qa / summary / technical / report": " / ".join(f"{100 * share:.0f} %" for share in phase.mix),
        }
        for phase in phases
    ]
    settings: dict[str, float] = {
        "close": 100 * CLOSE, "rest_s": REST_S, "topics": len(TOPICS), "words_per_token": WORDS_PER_TOKEN,
        "early": 100 * EARLY, "shortest": SHORTEST, "batch": BATCH, "wait_ms": 1000 * WAIT_S, "poll_s": POLL_S,
        "memory": 100 * MEMORY_SHARE, "step_ms": 1000 * STEP_S,
    }  # fmt: skip
    numbers = {name: f"{value:g}" for name, value in settings.items()}
    return {"protocol": markdown(rows), "gpu": GPU.upper(), "model": MODEL, **numbers}


def _percents(row: Mapping[str, Any], *names: str) -> dict[str, object]:
    return {name: percent(value) if name in names else value for name, value in row.items()}


def _rows(measures: pl.DataFrame, **wanted: object) -> pl.DataFrame:
    settled = {"steps": "30 ms", "tier": "all", "unit": "words", "adaptive": True} | wanted
    return measures.filter(*(pl.col(name) == value for name, value in settled.items()))


def _policies(measures: pl.DataFrame) -> str:
    parts = []
    for engine in ENGINES:
        for phase in ("learning", "stress"):
            rows = [_policy_row(_rows(measures, engine=engine, phase=phase, policy=policy)) for policy in POLICIES]
            parts.append(f"### {engine.capitalize()}, {phase} phase\n\n{markdown(rows)}")
    return "\n\n".join(parts)


def _policy_row(rows: pl.DataFrame) -> dict[str, object]:
    columns = {
        "mean": "mean", "P50": "P50", "P95": "P95", "P99": "P99", "wait mean": "wait mean", "wait P99": "wait P99",
        "makespan": "makespan", "idle places": "wasted", "ρ": "rho",
    }  # fmt: skip
    return {"policy": rows["policy"][0], **{title: over_seeds(rows[name].to_list()) for title, name in columns.items()}}


def _tiers(measures: pl.DataFrame) -> str:
    parts = []
    for engine in ENGINES:
        for phase in ("learning", "stress"):
            rows = [_tier_row(measures, engine, phase, policy) for policy in OURS]
            parts.append(f"### {engine.capitalize()}, {phase} phase: waits, s\n\n{markdown(rows)}")
    return "\n\n".join(parts)


def _tier_row(measures: pl.DataFrame, engine: str, phase: str, policy: str) -> dict[str, object]:
    own = {t: _rows(measures, engine=engine, phase=phase, policy=policy, tier=t) for t in TIERS}
    waits = {tier: rows["wait mean"].to_list() for tier, rows in own.items()}
    return {
        "policy": policy,
        **{tier: over_seeds(values) for tier, values in waits.items()},
        "batch, longest": over_seeds(own["batch"]["wait max"].to_list()),
        "batch ÷ premium": over_seeds([b / p for b, p in zip(waits["batch"], waits["premium"], strict=True)]),
        "E2E P99 premium": over_seeds(own["premium"]["P99"].to_list()),
        "E2E P99 batch": over_seeds(own["batch"]["P99"].to_list()),
        "ρ": over_seeds(own["batch"]["rho"].to_list()),
    }


def _estimates(measures: pl.DataFrame, found: Results) -> dict[str, str]:
    phases, units = ("learning", "stress", "both"), ("words", "tokens")
    return {
        "estimates": markdown([_estimate_row(measures, unit, phase) for unit in units for phase in phases]),
        "biases": markdown([_bias_row(found, unit) for unit in units]),
        "units": markdown([_percents(row, "MAE", "RMSE") for row in found["units"]]),
    }


def _estimate_row(measures: pl.DataFrame, unit: str, phase: str) -> dict[str, object]:
    static = _rows(measures, engine="synchronous", phase=phase, policy="SJF", unit=unit, adaptive=False)
    adaptive = _rows(measures, engine="synchronous", phase=phase, unit=unit).filter(pl.col("policy").is_in(OURS))
    mean = adaptive.group_by("seed", maintain_order=True).agg(pl.col("MAE", "RMSE").mean())
    rho = [
        over_seeds(_rows(measures, engine="synchronous", phase=p, policy="SJF")["rho"].to_list())
        for p in ("learning", "stress")
    ]
    row: dict[str, object] = {"unit": unit, "phase": phase}
    for name in ("MAE", "RMSE"):
        before, after = static.sort("seed")[name].to_list(), mean.sort("seed")[name].to_list()
        row |= {f"{name} static": over_seeds(before), f"{name} adaptive": over_seeds(after)}
        row |= {f"{name} change": percent(change(after, before))}
    both = " and ".join(f"{r.mean:.1f}" for r in rho)
    return row | {"ρ": both if phase == "both" else f"{rho[phase == 'stress'].mean:.1f}"}


def _bias_row(found: Results, unit: str) -> dict[str, object]:
    cases = [c for c in found["cases"] if unit in c.biases and c.measures["engine"][0] == "synchronous"]
    cases = [c for c in cases if c.measures["steps"][0] == "30 ms"]
    last = {kind: over_seeds([c.biases[unit][kind][-1] for c in cases]) for kind in cases[0].biases[unit]}
    rho = over_seeds([c.measures.filter(pl.col("phase") == "stress")["rho"][0] for c in cases])
    return {"unit": unit, **{f"last bias, {kind}": bias for kind, bias in last.items()}, "ρ (stress)": rho}


def _aging(found: Results) -> dict[str, str]:
    moved = [case.moved for case in found["cases"] if case.moved]
    counts = {phase: sum(m[phase] for m in moved) for phase in moved[0]}
    differing = [
        row for row in found["sizes"] if not row[DIFFER].startswith("0 ") and row["requests"].startswith("stress")
    ]
    return {
        "moved": " and ".join(f"{count} requests of the {phase} phase" for phase, count in counts.items()),
        "smallest": str(differing[0]["requests"]) if differing else "none of those tried",
        **{name: markdown(found[name]) for name in ("patience", "sizes", "calm")},
    }


def _gain_rows(measures: pl.DataFrame) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for engine in ENGINES:
        for steps in measures["steps"].unique(maintain_order=True):
            for phase in ("stress", "learning"):
                own = _rows(measures, engine=engine, steps=steps, phase=phase)
                at = {p: own.filter(pl.col("policy") == p).sort("seed") for p in ("FCFS", "SJF", "oracle SJF")}
                row: dict[str, object] = {"engine": engine, "step": steps, "phase": phase}
                for policy in ("SJF", "oracle SJF"):
                    for q in ("P50", "P99"):
                        row[f"{policy} {q}"] = percent(change(at[policy][q].to_list(), at["FCFS"][q].to_list()))
                rows.append(row | {"ρ": over_seeds(at["FCFS"]["rho"].to_list())})
    return rows


def _traces(found: Results) -> dict[str, object]:
    if not found.get("traces"):
        return {"trace_errors": "", "trace_latencies": "", "assumed": ""}
    errors = [row for part in found["traces"] for row in part[0]]
    latencies = [row for part in found["traces"] for row in part[1]]
    rho = {row["trace"]: row["ρ"] for row in latencies}
    return {
        "trace_errors": markdown([row | {"ρ": rho[row["trace"]]} for row in errors]),
        "trace_latencies": markdown(latencies),
        "assumed": f"{ASSUMED_START_S:g} s and {ASSUMED_TPOT_S:g} s a token",
    }
