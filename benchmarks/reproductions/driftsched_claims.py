"""DriftSched's claims beside what the replays gave, each with a plain word on whether it holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from benchmarks.reproductions.driftsched_runs import ENGINES, OURS
from benchmarks.reproductions.tables import Estimate, change, over_seeds, percent

CLOSE = 0.10  # of a claim in shares: nearer than this it holds as it stands


def claims(measures: pl.DataFrame, found: Mapping[str, Sequence[Any]]) -> list[dict[str, object]]:
    """One row a claim: theirs, an earlier sketch of the protocol, ours on both engines, and the verdict."""
    made = [
        _latency(measures, found, "SJF's median against FIFO, stress", "P50", -0.42, "−42 %"),
        _latency(measures, found, "SJF's P99 against FIFO, stress", "P99", -0.16, "−25 %"),
    ]
    made += [_error(measures, "words", "MAE", -0.388, "−57 %"), _error(measures, "words", "RMSE", -0.405, "–")]
    made += [_error(measures, "tokens", "MAE", 0.0, "−7 %")]
    return [*made, _spread(measures), _aging(measures, found), *_on_traces(found)]


def _latency(
    measures: pl.DataFrame, found: Mapping[str, Sequence[Any]], claim: str, quantile: str, theirs: float, sketch: str
) -> dict[str, object]:
    ours = {engine: _against_fifo(measures, engine, "SJF", quantile) for engine in ENGINES}
    first, other = ours.values()
    verdict = judged(first, theirs) + f" in synchronous batches{_worse(found, quantile)}; "
    verdict += "the same way under continuous batching" if other.high < 0 else _not_below(other)
    cell = percent(first)
    if "roofline" in measures["steps"]:
        by_sheet = _against_fifo(measures, "synchronous", "SJF", quantile, "roofline")
        cell += f"; with the roofline's steps {percent(by_sheet)}"
    return _row(claim, f"{100 * theirs:+.0f} %", sketch, cell, percent(other), _rho(measures), verdict)


def _worse(found: Mapping[str, Sequence[Any]], quantile: str) -> str:
    """At which loads SJF makes the quantile worse under synchronous batches, by the study of loads."""
    rows = [row for row in found["loads"] if row["engine"] == "synchronous" and row[f"SJF {quantile}"].low > 0]
    if not rows:
        return ""
    return f" at this load, and is reversed at ρ from {rows[0]['ρ'].mean:.2f} to {rows[-1]['ρ'].mean:.2f}"


def _not_below(found: Estimate) -> str:
    return (
        "the opposite under continuous batching" if found.low > 0 else "no change that shows under continuous batching"
    )


def _error(measures: pl.DataFrame, unit: str, measure: str, theirs: float, sketch: str) -> dict[str, object]:
    found = {engine: _corrected(measures, engine, unit, measure) for engine in ENGINES}
    text = f"{measure} of estimates in {unit}, adaptive against static, all requests"
    said = f"{100 * theirs:+.1f} %" if theirs else "≈ 0 (v2)"
    verdict = judged(found["synchronous"], theirs)
    if unit == "words":
        verdict += ": what is learnt is the unit, and how many words a token is sets the size"
    if unit == "tokens":
        verdict = "holds: little is left once the unit is right" if found["synchronous"].low > -CLOSE else verdict
    return _row(
        text, said, sketch, percent(found["synchronous"]), percent(found["continuous"]), _rho(measures), verdict
    )


def _spread(measures: pl.DataFrame) -> dict[str, object]:
    """v2: which policy matters more than correction."""
    shown = {}
    for engine in ENGINES:
        own = _of(measures, engine, "stress").filter(pl.col("unit") == "tokens", pl.col("policy") == "SJF").sort("seed")
        on, off = (own.filter(pl.col("adaptive") == a)["P50"].to_list() for a in (True, False))
        shown[engine] = (change(on, off), _against_fifo(measures, engine, "SJF", "P50"))
    first, other = (f"correction {percent(a)}; policy {percent(b)}" for a, b in shown.values())
    holds = all(abs(b.mean) > 3 * abs(a.mean) for a, b in shown.values())
    claim = "Policy matters more than correction: stress median, SJF corrected against not, and SJF against FIFO"
    return _row(claim, "yes (v2)", "–", first, other, _rho(measures), "holds" if holds else "does not hold")


def _aging(measures: pl.DataFrame, found: Mapping[str, Sequence[Any]]) -> dict[str, object]:
    moved = {}
    for engine in ENGINES:
        own = [sum(c.moved.values()) for c in found["cases"] if c.moved and c.measures["engine"][0] == engine]
        moved[engine] = f"{sum(own)} requests moved in {len(own)} replays"
    same = all(moved[engine].startswith("0 ") for engine in ENGINES)
    verdict = "holds as an identity of this protocol, not as a result: see below" if same else "does not hold"
    return _row(
        "Aging gives what Priority gives (both phases)",
        "–",
        "equal",
        moved["synchronous"],
        moved["continuous"],
        _rho(measures),
        verdict,
    )


def _on_traces(found: Mapping[str, Sequence[Any]]) -> list[dict[str, object]]:
    """Ours: whether correction still gains where classes are a trace's columns and the base follows what has ended."""
    rows = []
    for errors, latencies in found.get("traces", ()):
        row = next(r for r in errors if r["correction"] != "–")
        claim = f"Correction helps without prompts too: MAE, {row['trace']} (not claimed)"
        verdict = {"helps": "holds", "harms": "does not hold: it harms"}.get(row["correction"], "does not show")
        rows.append(_row(claim, "–", "–", "–", row["MAE change"], f"{latencies[0]['ρ']:.2f}", verdict))
    return rows


def judged(ours: Estimate, theirs: float) -> str:
    """`holds` when near the claim, `holds in direction` when on its side of zero for sure."""
    if abs(ours.mean - theirs) <= CLOSE:
        return "holds"
    if (ours.high < 0) if theirs < 0 else (ours.low > 0):
        return "holds in direction, larger here" if abs(ours.mean) > abs(theirs) else "holds in direction, smaller here"
    return "cannot be told with so few seeds" if ours.low < theirs < ours.high else "does not hold"


def _against_fifo(measures: pl.DataFrame, engine: str, policy: str, quantile: str, steps: str = "30 ms") -> Estimate:
    own = _of(measures, engine, "stress", steps).filter(pl.col("unit") == "words", pl.col("adaptive")).sort("seed")
    at = {p: own.filter(pl.col("policy") == p)[quantile].to_list() for p in (policy, "FCFS")}
    return change(at[policy], at["FCFS"])


def _corrected(measures: pl.DataFrame, engine: str, unit: str, measure: str) -> Estimate:
    """The mean over the five policies (in tokens under continuous batching: SJF alone) against static."""
    own = _of(measures, engine, "both").filter(pl.col("unit") == unit, pl.col("policy").is_in(OURS))
    mean = own.group_by("seed", "adaptive").agg(pl.col(measure).mean()).sort("seed")
    adaptive, static = (mean.filter(pl.col("adaptive") == a)[measure].to_list() for a in (True, False))
    return change(adaptive, static)


def _of(measures: pl.DataFrame, engine: str, phase: str, steps: str = "30 ms") -> pl.DataFrame:
    return measures.filter(
        pl.col("engine") == engine, pl.col("phase") == phase, pl.col("tier") == "all", pl.col("steps") == steps
    )


def _rho(measures: pl.DataFrame) -> str:
    means = [over_seeds(_of(measures, e, "stress")["rho"].to_list()).mean for e in ENGINES]
    return " / ".join(f"{mean:.0f}" for mean in means)


def _row(claim: str, theirs: str, sketch: str, ours: str, other: str, rho: str, verdict: str) -> dict[str, object]:
    return {
        "claim": claim,
        "the paper": theirs,
        "earlier sketch": sketch,
        "ours, synchronous": ours,
        "ours, continuous": other,
        "ρ (stress, or of the trace)": rho,
        "verdict": verdict,
    }
