"""Drift with a known truth: what is found and how late, what is invented, and how long ten million rows take.

    python -m benchmarks.drift [SEEDS] [ROWS]

Lengths are lognormal, σ 1. Delay is the distance between the planted and the nearest found change point; for online
detectors, from the planted change to the first alarm after it. Parts: eight models and six tenants of Zipf shares, each
model with a scale of its own, 10,000 requests; the outputs of one tenant of one model step at 0.6, or none do.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.machine import TRACE, facts, made_apart, spent
from toolkit.analysis import detectors
from toolkit.analysis.change_points import BLOCKS, segment
from toolkit.analysis.drift import LENGTHS, SEED, Drift
from toolkit.analysis.drift_bins import of_tokens
from toolkit.schema import TRACE as SCHEMA
from toolkit.schema import conform
from toolkit.traces import Trace, TraceInfo, write_trace

Floats = NDArray[np.float64]
Lengths = Callable[[int, np.random.Generator], Floats]
RESULTS = Path(__file__).parent / "results"
SIZES = (5_000, 10_000, 20_000)
PARTS_SIZE = 10_000
PARTS = ((2, 0.04), (3, 0.04), (1.5, 0.1), (2, 0.1), (1.5, 0.2))  # factor, and about which share of the requests
WANDERS = ("independent", "AR(1) 0.9 of all", "AR(1) 0.9 of each model", "sessions of 8 turns")
FRESH = 1_000  # the traces that settings were chosen on had other seeds
ONLINE = 10  # seeds that the detectors are run on too
MEDIAN = 200.0
COLUMN = "output_tokens"


@dataclass(frozen=True)
class Planted:
    """log-length deviations of a trace of n requests, and where they change (shares of the trace)."""

    name: str
    make: Lengths
    at: tuple[float, ...] = ()


def noise(n: int, rng: np.random.Generator) -> Floats:
    return rng.standard_normal(n)


def ar1(phi: float) -> Lengths:
    """Log-lengths that follow an AR(1) of variance 1."""

    def make(n: int, rng: np.random.Generator) -> Floats:
        from scipy.signal import lfilter

        warm = int(20 / (1 - phi))
        values: Floats = lfilter([np.sqrt(1 - phi**2)], [1, -phi], rng.standard_normal(n + warm))[warm:]
        return values

    return make


def sessions(concurrent: int, turns: float, share: float) -> Lengths:
    """Interleaved sessions; `share` of the variance is the session's own."""

    def make(n: int, rng: np.random.Generator) -> Floats:
        slot, left = rng.integers(0, concurrent, n), rng.geometric(1 / turns, concurrent)
        own, values = rng.standard_normal(concurrent), np.sqrt(1 - share) * rng.standard_normal(n)
        for i, s in enumerate(slot):
            values[i] += np.sqrt(share) * own[s]
            left[s] -= 1
            if not left[s]:
                left[s], own[s] = rng.geometric(1 / turns), rng.standard_normal()
        return values

    return make


def growing(concurrent: int, turns: float) -> Lengths:
    """Interleaved sessions whose contexts grow turn by turn, from their middles on; the log of all that was said."""

    def make(n: int, rng: np.random.Generator) -> Floats:
        slot, left = rng.integers(0, concurrent, n), rng.geometric(1 / turns, concurrent)
        said = [float(np.exp(rng.standard_normal(age)).sum()) for age in rng.geometric(1 / turns, concurrent)]
        values, added = np.empty(n), np.exp(rng.standard_normal(n))
        for i, s in enumerate(slot):
            values[i] = log(said[s])
            left[s] -= 1
            said[s] = added[i] + (said[s] if left[s] else 0)
            left[s] = left[s] or rng.geometric(1 / turns)
        return values

    return make


def levels(factor: float, count: int) -> Lengths:
    return lambda n, rng: noise(n, rng) + log(factor) * (np.arange(n) * count // n % 2)


def step(factor: float, at: float, below: Lengths = noise) -> Lengths:
    return lambda n, rng: below(n, rng) + log(factor) * (np.arange(n) >= int(at * n))


def ramp(factor: float, begin: float, end: float) -> Lengths:
    return lambda n, rng: noise(n, rng) + log(factor) * np.clip((np.arange(n) / n - begin) / (end - begin), 0, 1)


def pulse(factor: float, begin: float, end: float) -> Lengths:
    def make(n: int, rng: np.random.Generator) -> Floats:
        place = np.arange(n) / n
        return noise(n, rng) + log(factor) * ((place >= begin) & (place < end))

    return make


def shape(sigma: float, at: float) -> Lengths:
    """σ from 1 to `sigma` with the same mean length."""

    def make(n: int, rng: np.random.Generator) -> Floats:
        values = noise(n, rng)
        return np.where(np.arange(n) >= int(at * n), sigma * values + (1 - sigma**2) / 2, values)

    return make


DRIFTS = (
    *(Planted(f"step ×{f:g} at {at:g}", step(f, at), (at,)) for f in (1.2, 1.5, 2) for at in (0.5, 0.75)),
    Planted("step ×0.67 at 0.3", step(1 / 1.5, 0.3), (0.3,)),
    *(Planted(f"ramp to ×{f:g}", ramp(f, 0.3, 0.7), (0.5,)) for f in (1.2, 1.5, 2)),
    Planted("pulse ×1.5 of an eighth", pulse(1.5, 0.5, 0.625), (0.5, 0.625)),
    *(Planted(f"same mean, σ 1 → {s:g}", shape(s, 0.5), (0.5,)) for s in (0.7, 1.3)),
    Planted("step ×2 on AR(1) 0.9", step(2, 0.5, ar1(0.9)), (0.5,)),
    Planted("×2 and back, twice", levels(2, 4), (0.25, 0.5, 0.75)),
)
STILL = (
    Planted("independent", noise),
    *(Planted(f"AR(1) {phi:g}", ar1(phi)) for phi in (0.5, 0.9, 0.97, 0.99)),
    Planted("sessions, 20 at once of 6 turns", sessions(20, 6, 0.5)),
    Planted("sessions, 40 at once of 8 turns", sessions(40, 8, 0.5)),
    Planted("growing contexts, 10 at once of 8 turns", growing(10, 8)),
    Planted("growing contexts, 40 at once of 8 turns", growing(40, 8)),
)


def trace_of(planted: Planted, n: int, seed: int) -> pl.DataFrame:
    """The drift analysis's columns: planted outputs, independent prompts, arrivals whose rate swings threefold."""
    rng = np.random.default_rng([FRESH, seed, n])
    deviation = planted.make(n, rng)
    swing = 1 + 0.5 * np.sin(2 * np.pi * 2 * np.arange(n) / n)
    columns = {
        "request_id": np.arange(n),
        "arrival_s": np.cumsum(rng.exponential(1 / swing)),
        "prompt_tokens": np.maximum(1, np.rint(600 * np.exp(rng.standard_normal(n)))).astype(np.int32),
        COLUMN: np.maximum(1, np.rint(MEDIAN * np.exp(deviation))).astype(np.int32),
    }
    return conform(pl.DataFrame(columns), SCHEMA, source=planted.name).select(Drift.columns)


def asked(planted: Planted, n: int, seed: int) -> dict[str, Any]:
    """What the analysis says of one trace's change points and alarms."""
    frame, rng = trace_of(planted, n, seed), np.random.default_rng(SEED)
    found = {name: segment(binned, rng).points for name in LENGTHS if (binned := of_tokens(frame, name))}
    points = found[COLUMN]
    tokens = frame[COLUMN].to_numpy()
    alarms = detectors.alarms(tokens, points, n // BLOCKS, rng) if seed < ONLINE else None
    return {"drifts": {name: bool(at) for name, at in found.items()}, "points": points, "alarms": alarms}


def detection(planted: Planted, n: int, seeds: int) -> dict[str, Any]:
    """How often a planted drift is found, how far off, and how late the detectors are."""
    answers = [asked(planted, n, seed) for seed in range(seeds)]
    places = [int(at * n) for at in planted.at]
    off = [min(abs(p - place) for p in a["points"]) for a in answers if len(a["points"]) for place in places]
    row = {
        "drift": planted.name,
        "requests": n,
        "found": float(np.mean([a["drifts"][COLUMN] for a in answers])),
        "false in prompts": float(np.mean([a["drifts"]["prompt_tokens"] for a in answers])),
        "points": float(np.mean([len(a["points"]) for a in answers])),
        "off p50": float(np.median(off)) if off else None,
        "off p90": float(np.quantile(off, 0.9)) if off else None,
    }
    return row | _online(answers, places[0])


def _online(answers: list[dict[str, Any]], place: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("ADWIN", "CUSUM", "Page–Hinkley"):
        online = [answer["alarms"] for answer in answers if answer["alarms"] is not None]
        after = [[at - place for detector, at, *_ in found if detector == name and at >= place] for found in online]
        delays = [found[0] for found in after if found]
        row |= {f"{name} found": len(delays) / len(online), f"{name} delay": np.median(delays) if delays else None}
    return row


def invention(planted: Planted, n: int, seeds: int) -> dict[str, Any]:
    """How often a drift-free trace drifts, by the analysis and by any alarm of a detector."""
    answers = [asked(planted, n, seed) for seed in range(seeds)]
    row: dict[str, Any] = {"trace": planted.name, "requests": n}
    row["drift"] = float(np.mean([a["drifts"][COLUMN] for a in answers]))
    for name in ("ADWIN", "CUSUM", "Page–Hinkley"):
        online = [a["alarms"] for a in answers if a["alarms"] is not None]
        row[name] = float(np.mean([any(detector == name for detector, *_ in found) for found in online]))
    return row


def named(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Models and tenants of n requests."""
    shares = (1 / np.arange(1, 9), 1 / np.arange(1, 7))
    model, tenant = (rng.choice(len(share), n, p=share / share.sum()) for share in shares)
    return model, tenant


def wandering(name: str, n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Drift-free log-lengths, and their models and tenants."""
    model, tenant = named(n, rng)
    if name == "AR(1) 0.9 of each model":
        values = np.empty(n)
        for each in range(8):
            own = model == each
            values[own] = ar1(0.9)(int(own.sum()), rng)
        return values, model, tenant
    if name == "sessions of 8 turns":
        session = np.repeat(np.arange(n), rng.geometric(1 / 8, n))
        at = np.sort(rng.random(n) * n)[session] * 8 + rng.exponential(60, len(session))
        session = session[np.argsort(at, kind="stable")][:n]
        model, tenant = (each[session] for each in named(n, rng))
        return np.sqrt(0.5) * (rng.standard_normal(n)[session] + rng.standard_normal(n)), model, tenant
    return (ar1(0.9) if name == "AR(1) 0.9 of all" else noise)(n, rng), model, tenant


def parts_of(name: str, factor: float, share: float, seed: int) -> tuple[list[tuple[str, str]], dict[str, Any], Any]:
    """The parts that are named, the planted one's change as it is told, and which part that is."""
    rng = np.random.default_rng([FRESH, seed, 77])
    values, model, tenant = wandering(name, PARTS_SIZE, rng)
    values += rng.normal(0, 0.5, 8)[model]
    sizes = np.bincount(model * 6 + tenant, minlength=48) / PARTS_SIZE
    part = int(np.abs(sizes - share).argmin())
    late = np.arange(PARTS_SIZE) >= int(0.6 * PARTS_SIZE)
    values += log(factor) * (late & (model * 6 + tenant == part))
    columns = {
        "request_id": np.arange(PARTS_SIZE),
        "arrival_s": np.arange(PARTS_SIZE) * 1.0,
        "model": [f"m{each}" for each in model],
        "tenant": [f"t{each}" for each in tenant],
        COLUMN: np.maximum(1, np.rint(MEDIAN * np.exp(values))).astype(np.int32),
    }
    frame = conform(pl.DataFrame(columns), SCHEMA, source="parts").select(Drift.columns)
    tables = Drift().run(frame, TraceInfo("parts", "", "", PARTS_SIZE, PARTS_SIZE, span_s=float(PARTS_SIZE)))
    own = (f"m{part // 6}", f"t{part % 6}")
    told = tables["strata_points"].filter(pl.col("column") == COLUMN)
    change = told.filter(pl.col("model") == own[0], pl.col("tenant") == own[1])
    all_of_them = told.select("model", "tenant").unique(maintain_order=True).rows()
    return all_of_them, change.row(0, named=True) if change.height else {}, own


def planted_part(factor: float, share: float, seeds: int) -> dict[str, Any]:
    """How often a step in one part is laid to it, when, and by how much."""
    answers = [parts_of("independent", factor, share, seed) for seed in range(seeds)]
    changes = [change for _, change, _ in answers if change]
    off = [abs(change["request_id"] - 0.6 * PARTS_SIZE) for change in changes]
    return {
        "step in one part": f"×{factor:g}",
        "share of requests": share,
        "part named": len(changes) / seeds,
        "another named": float(np.mean([any(part != own for part in found) for found, _, own in answers])),
        "factor told, p50": float(np.median([change["ratio"] for change in changes])) if changes else None,
        "off p50": float(np.median(off)) if off else None,
    }


def invented_part(name: str, seeds: int) -> dict[str, Any]:
    """How often any part of a drift-free trace is named."""
    return {"trace": name, "a part named": float(np.mean([bool(parts_of(name, 1, 0.1, s)[0]) for s in range(seeds)]))}


def parts(seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Both tables, on both cores."""
    with ProcessPoolExecutor(2) as pool:
        found = [pool.submit(planted_part, factor, share, seeds) for factor, share in PARTS]
        invented = [pool.submit(invented_part, name, seeds) for name in WANDERS]
        return {"parts": [f.result() for f in found], "parts of drift-free traces": [f.result() for f in invented]}


def large(path: Path, rows: int, seed: int = 1) -> None:
    """`rows` requests of 100 models (Zipf) and 200 tenants over a day; half-way outputs grow by half."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 101)
    models = rng.choice(100, rows, p=weights / weights.sum()).astype(np.int32)
    output = 200 * np.exp(rng.standard_normal(rows, dtype=np.float32))
    output[rows // 2 :] *= 1.5
    names = pl.Series("name", [f"model-{i:03}" for i in range(100)])
    tenants = pl.Series("name", [f"tenant-{i:03}" for i in range(200)])
    frame = pl.DataFrame(
        {
            "request_id": np.arange(rows),
            "arrival_s": np.sort(rng.random(rows) * 86_400),
            "model": names.gather(models),
            "tenant": tenants.gather(rng.integers(0, 200, rows)),
            "prompt_tokens": (600 * np.exp(rng.standard_normal(rows, dtype=np.float32))).astype(np.int32) + 1,
            "output_tokens": output.astype(np.int32) + 1,
        }
    )
    whole = conform(frame.lazy(), SCHEMA, source="generated")
    write_trace(Trace(whole, TraceInfo("large", "canonical", "", rows, rows, span_s=86_400.0)), path)


def speed(rows: int) -> list[dict[str, Any]]:
    """Wall and CPU seconds and memory of `trace analyze`, plain, with --drift, with --groups and with both."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.parquet"
        made_apart(large, path, rows)
        found = []
        for options in ([], ["--drift"], ["--groups"], ["--groups", "--drift"]):
            runs = [spent([*TRACE, "analyze", path, *options, "--json"]) for _ in range(3)]
            best = min(runs, key=lambda run: run.wall_s)
            found.append(
                {
                    "command": " ".join(["trace analyze", *options]),
                    "rows": rows,
                    "wall s": best.wall_s,
                    "CPU s": best.cpu_s,
                    "GB": best.peak_bytes / 1e9,
                }
            )
    return found


def rows_of(ask: Callable[[Planted, int, int], dict[str, Any]], kind: str, seeds: int) -> list[dict[str, Any]]:
    """A row for every size and planted trace of a kind, on both cores."""
    cases = [(ask, kind, place, n, seeds) for n in SIZES for place in range(len(globals()[kind]))]
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(_row, cases))


def _row(case: tuple[Callable[[Planted, int, int], dict[str, Any]], str, int, int, int]) -> dict[str, Any]:
    ask, kind, place, n, seeds = case
    return ask(globals()[kind][place], n, seeds)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def main(seeds: int = 50, rows: int = 10_000_000) -> None:
    """Print the tables and write them to results/drift.md and drift.json."""
    began, said = time.perf_counter(), facts()
    found = {
        "detection": rows_of(detection, "DRIFTS", seeds),
        "false alarms": rows_of(invention, "STILL", seeds),
        **parts(seeds),
        "speed": speed(rows) if rows else [],
    }
    online = f"{seeds} seeds a row, the detectors on the first {min(seeds, ONLINE)}."
    text = f"# Drift: what is found, what is invented, and how fast\n\n{__doc__}\n{online}\n"
    for name, part in found.items():
        text += f"\n## {name.capitalize()}\n\n{table(part)}\n" if part else ""
    text += "\n" + "\n".join(f"- {key}: {value}" for key, value in said.items()) + "\n"
    print(text, f"\n{time.perf_counter() - began:.0f} s")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "drift.md").write_text(text)
    (RESULTS / "drift.json").write_text(json.dumps(found | {"machine": said}, indent=1, default=float) + "\n")


if __name__ == "__main__":
    from benchmarks.drift import main  # so that the other core's process finds the functions by name

    main(*(int(argument) for argument in sys.argv[1:]))
