"""Where DriftSched's findings end: when Aging leaves Priority, what SJF does at other loads, what the drift is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from benchmarks.reproductions.driftsched_runs import engine
from benchmarks.reproductions.driftsched_workload import STRESS, Phase, requests, workload
from benchmarks.reproductions.replaying import outcomes, trace_of
from benchmarks.reproductions.tables import change, over_seeds
from replay.schedulers.drift_estimator import DriftEstimator
from replay.schedulers.driftsched import AGING_S
from toolkit.metrics import E2E
from toolkit.protocols import Engine

Row = dict[str, Any]
DIFFER = "seeds in which they differ"
SELDOM = "feedback_s=10"  # what is learnt does not change an order by arrival, and little in minutes of waiting


def moved(phase: Phase, seed: int, on: Engine, patience_s: float = AGING_S) -> dict[str, float]:
    """How many requests Aging starts at another time than Priority does; the phase's span and ρ."""
    trace, info = trace_of(requests(phase, np.random.default_rng(seed)), phase.name)
    strict, summary = outcomes(trace, info, f"driftsched-priority:{SELDOM}", on)
    aged, _ = outcomes(trace, info, f"driftsched-aging:patience_s={patience_s},{SELDOM}", on)
    share = float((strict["start_s"] != aged["start_s"]).mean())  # type: ignore[arg-type]
    waited = float((strict["start_s"] - strict["arrival_s"]).max())  # type: ignore[arg-type]
    return {"span": float(info.span_s or 0.0), "rho": float(summary["utilisation"]), "moved": share, "waited": waited}


def patience_row(patience_s: float, phase: Phase, seeds: Sequence[int]) -> Row:
    """The stress phase with another worth of a tier."""
    return _moved_row(f"stress phase, a tier worth {patience_s:g} s", phase, seeds, engine("synchronous"), patience_s)


def size_row(phase: Phase, seeds: Sequence[int]) -> Row:
    """A phase at its rate, with as many requests as it has."""
    name = f"{phase.name} phase's rate, {phase.requests:,} requests"
    return _moved_row(name, phase, seeds, engine("synchronous"))


def calm_row(load: float, count: int, seeds: Sequence[int]) -> Row:
    """The stress mix at another load, over a longer time than a tier is worth."""
    served = engine("synchronous")
    return _moved_row(f"stress mix, slower, {count:,} requests", at_load(served, load, count), seeds, served)


def _moved_row(name: str, phase: Phase, seeds: Sequence[int], on: Engine, patience_s: float = AGING_S) -> Row:
    found = [moved(phase, seed, on, patience_s) for seed in seeds]
    return {
        "requests": name,
        "arrivals span, s": over_seeds([f["span"] for f in found]),
        "ρ": over_seeds([f["rho"] for f in found]),
        "longest wait under Priority, s": over_seeds([f["waited"] for f in found]),
        DIFFER: f"{sum(f['moved'] > 0 for f in found)} of {len(found)}",
        "requests started at another time": f"{100 * over_seeds([f['moved'] for f in found]).mean:.1f} %",
    }


def at_load(on: Engine, load: float, count: int) -> Phase:
    """The stress mix, slowed until its ρ is `load`; by seed 0."""
    trace, info = trace_of(requests(STRESS.sized(count), np.random.default_rng(0)), "stress")
    _, summary = outcomes(trace, info, "fcfs", on)
    return STRESS.sized(count).slowed(summary["utilisation"] / load)


def load_row(name: str, load: float, count: int, seeds: Sequence[int]) -> Row:
    """SJF against FIFO at one load of the stress mix; changes are shares."""
    on = engine(name)
    phase = at_load(on, load, count)
    specs = {"FIFO": "fcfs", "SJF": f"driftsched-sjf:unit=words,{SELDOM}", "oracle": "sjf"}
    found: dict[str, list[pl.DataFrame]] = {policy: [] for policy in specs}
    rho = []
    for seed in seeds:
        trace, info = trace_of(requests(phase, np.random.default_rng(seed)), "stress")
        for policy, spec in specs.items():
            made, summary = outcomes(trace, info, spec, on)
            found[policy].append(made.select(E2E))
        rho.append(summary["utilisation"])
    at = {(p, q): [_quantile(f, q) for f in frames] for p, frames in found.items() for q in (0.5, 0.99)}
    row: Row = {"engine": name, "ρ": over_seeds(rho)}
    row |= {"FIFO P50, s": over_seeds(at["FIFO", 0.5]), "FIFO P99, s": over_seeds(at["FIFO", 0.99])}
    for policy in ("SJF", "oracle"):
        row |= {f"{policy} P{100 * q:g}": change(at[policy, q], at["FIFO", q]) for q in (0.5, 0.99)}
    return row


def unit_row(early: float, ratio: float, phases: tuple[Phase, Phase], seeds: Sequence[int]) -> Row:
    """What correction gains where a token is `ratio` words and `early` answers end early; FIFO, stress phase."""
    found = [_gain(early, ratio, phases, seed) for seed in seeds]
    return {
        "answers that end early": f"{100 * early:.0f} %",
        "words a token": "1 (counted in tokens)" if ratio == 1 else f"{ratio:g}",
        "ρ": over_seeds([f[0] for f in found]),
        "MAE": over_seeds([f[1] for f in found]),
        "RMSE": over_seeds([f[2] for f in found]),
    }


def _gain(early: float, ratio: float, phases: tuple[Phase, Phase], seed: int) -> tuple[float, float, float]:
    """(ρ, MAE, RMSE) of the stress phase after the learning phase; errors adaptive against static, as shares."""
    served, first = engine("synchronous"), phases[0].requests
    trace, info = workload(phases, seed, (0.0, 1000.0), early)
    spec = f"driftsched-fifo:unit=words,words_per_token={ratio},{SELDOM}"
    found, _ = outcomes(trace, info, spec, served)
    actual = (ratio * trace["output_tokens"]).floor().to_numpy()
    still = DriftEstimator("paper", "words", False, ratio, "none").estimate(trace)
    static, adaptive = (e[first:] - actual[first:] for e in (still, found["predicted_output_tokens"].to_numpy()))
    mae, rmse = np.abs(adaptive).mean() / np.abs(static).mean(), np.sqrt((adaptive**2).mean() / (static**2).mean())
    stress, stress_info = trace_of(requests(phases[1], np.random.default_rng(seed), early), "stress")
    rho = outcomes(stress, stress_info, "fcfs", served)[1]["utilisation"]
    return float(rho), float(mae - 1), float(rmse - 1)


def _quantile(frame: pl.DataFrame, q: float) -> float:
    return float(np.quantile(frame["e2e_s"].to_numpy(), q))
