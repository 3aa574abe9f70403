"""UniBoost (2606.18431) against its baselines on the simulated engine: docs/papers/uniboost.md and its figures.

    python -m benchmarks.reproductions.uniboost [--traces FOLDER] [--quick] [--seeds N] [--requests N]

The same seeds give the same page. `--quick` is one seed and few requests: it shows that everything runs. `--keep FILE`
writes every replay's figures as Parquet, and `--from FILE` draws the page from them.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.reproductions import uniboost_mixes as mixes
from benchmarks.reproductions.replaying import rows_of_all
from benchmarks.reproductions.uniboost_page import write_page
from benchmarks.reproductions.uniboost_runs import ENGINES, Case, processors, run, seeds

DOCS = Path(__file__).parents[2] / "docs" / "papers"
DETAIL_RHO, STUDY_RHO = 1.0, 0.95
BASE, GUARD = "uniboost:phase=base", "uniboost:phase=memguard"
SLOPE, RATIO = "uniboost:phase=ada,rule=slope", "uniboost:phase=ada,rule=ratio"
AGES = "quantum=16,ratio=1.25"  # at which the Gittins policies look
OFTEN = {
    "FCFS": "fcfs",
    "SJF": "sjf",
    "SRPT": "srpt",
    "TRAIL+": "trail:hold_share=0.6",
    "MLFQ+": "mlfq",
    "Gittins boost": f"gittins-boost:{AGES}",
    "DistBoost": "distboost",
    "UniBoost base": BASE,
    "UniBoost MemGuard": GUARD,
    "UniBoost γ-Ada slope": SLOPE,
}
ALL = {
    **{name: OFTEN[name] for name in ("FCFS", "SJF")},
    "LTR+": "ltr",
    **{name: OFTEN[name] for name in ("SRPT", "TRAIL+", "MLFQ+")},
    "LAS": "las",
    "Gittins": f"gittins:{AGES}",
    **{name: OFTEN[name] for name in list(OFTEN)[5:]},
    "UniBoost γ-Ada ratio": RATIO,
}
FACTORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
WRONG = {
    "exact": "srpt",
    "noise σ = 0.25": "srpt:predictor=noisy,sigma=0.25",
    "noise σ = 0.5": "srpt:predictor=noisy,sigma=0.5",
    "noise σ = 1": "srpt:predictor=noisy,sigma=1",
    "noise σ = 2": "srpt:predictor=noisy,sigma=2",
    "order only, σ = 0.5": "srpt:predictor=ranked,sigma=0.5",
    "class mean": "srpt:predictor=class-mean,by=kind+prompt",
    "stale class mean": "srpt:predictor=stale,share=0.1,by=kind+prompt",
    "prompt's class mean": "srpt:predictor=class-mean,by=prompt",
    "adversarial": "srpt:predictor=adversarial",
}
OPEN = {
    "FCFS": "fcfs",
    "DistBoost": "distboost",
    **{f"base, δ = {delta} s": f"{BASE},delta={delta}" for delta in (0, 1, 10, 100)},
    **{f"MemGuard, k = {k}": f"{GUARD},k={k}" for k in (16, 64, 256, 1024, 4096)},
    **{f"MemGuard, swap weight {weight}": f"{GUARD},swap_weight={weight}" for weight in (0, 10)},
}
ENGINE = {name: OFTEN[name] for name in ("FCFS", "SRPT", "TRAIL+", "UniBoost base", "UniBoost MemGuard")}


@dataclass(frozen=True)
class Size:
    """How much is replayed: requests of the replays at each load and of the detailed ones, and seeds."""

    requests: int = 3_000
    detailed: int = 10_000
    seeds: int = 10
    rhos: tuple[float, ...] = (0.6, 0.8, 0.9, 0.95, 1.0, 1.05)


QUICK = Size(150, 150, 1, (0.9, 1.05))


def cases(size: Size, traces: Path) -> list[Case]:
    """Everything that is replayed, the longest first so that the last to end is short."""
    every = [(workload, engine) for workload in mixes.known(traces) for engine in ENGINES]
    tight = [(workload, "memory-tight") for workload in mixes.MIXES]

    def case(part: str, where: tuple[str, str], rho: float, specs: dict[str, str], **more: Any) -> list[Case]:
        count = size.detailed if part == "detail" else size.requests
        return seeds(Case(part, *where, rho, 0, count, tuple(specs.items()), str(traces), **more), size.seeds)

    found = [one for where in every for one in case("detail", where, DETAIL_RHO, ALL)]
    found += [one for where in every for rho in size.rhos for one in case("loads", where, rho, OFTEN)]
    for where in tight:
        found += case("gamma", where, STUDY_RHO, _sweep())
        found += case("wrong", where, STUDY_RHO, {"FCFS": "fcfs", **WRONG, "UniBoost MemGuard": GUARD})
        found += case("open", where, STUDY_RHO, OPEN)
        found += case("recompute", where, STUDY_RHO, ENGINE, swap=False)
        found += case("prefill-first", where, STUDY_RHO, ENGINE, prefill_first=True)
    return found


def _sweep() -> dict[str, str]:
    """Policies by `phase γ/root`; γ = ∞ has no boost left."""
    named = {
        f"{name} {f:g}": f"{spec},gamma={f}x" for name, spec in (("base", BASE), ("guard", GUARD)) for f in FACTORS
    }
    return {"FCFS": "fcfs", **named, "base inf": f"{BASE},gamma=inf", "guard inf": f"{GUARD},gamma=inf"}


def replay_all(size: Size, traces: Path, workers: int) -> pl.DataFrame:
    """Every case's figures, with progress on stderr."""
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        left = (time.monotonic() - began) / done * (total - done)
        if done % max(1, total // 200) == 0 or done == total:
            print(f"\r{done}/{total} traces replayed, about {left:.0f} s left  ", end="", file=sys.stderr, flush=True)

    found = rows_of_all(run, cases(size, traces), workers, report)
    print(file=sys.stderr)
    return found


def main() -> None:
    """Replay, and write the page and its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproductions.uniboost", description=__doc__)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), help="folder of public traces")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the page")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=3_000, help="of a replay in the tables over loads")
    parser.add_argument("--quick", action="store_true", help="one seed, two loads, 150 requests")
    parser.add_argument("--workers", type=int, default=processors())
    parser.add_argument("--keep", type=Path, help="write every replay's figures to this Parquet file")
    parser.add_argument("--from", type=Path, dest="kept", help="draw the page from figures that were kept")
    options = parser.parse_args()
    size = QUICK if options.quick else Size(options.requests, seeds=options.seeds)
    found = pl.read_parquet(options.kept) if options.kept else replay_all(size, options.traces, options.workers)
    if options.keep:
        found.write_parquet(options.keep)
    command = "make reproduce-uniboost" + (" QUICK=--quick" if options.quick else "")
    options.out.mkdir(parents=True, exist_ok=True)
    print(write_page(found, options.out, command))


if __name__ == "__main__":
    main()
