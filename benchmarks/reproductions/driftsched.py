"""`make reproduce-driftsched`: DriftSched (2606.02982) replayed, its tables and figures written below docs/papers/.

python -m benchmarks.reproductions.driftsched [--quick] [--out FOLDER] [--traces FOLDER]
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.reproductions import driftsched_figures, driftsched_page
from benchmarks.reproductions.drawing import write
from benchmarks.reproductions.driftsched_runs import ENGINES, found_in
from benchmarks.reproductions.driftsched_studies import calm_row, load_row, patience_row, size_row, unit_row
from benchmarks.reproductions.driftsched_traces import TRACES, trace_rows
from benchmarks.reproductions.driftsched_workload import LEARNING, STRESS, Phase

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """How much is replayed."""

    seeds: tuple[int, ...] = tuple(range(10))
    phases: tuple[Phase, Phase] = (LEARNING, STRESS)
    steps: tuple[str, ...] = ("30 ms", "roofline")
    patience_s: tuple[float, ...] = (100.0, 50.0, 35.0, 30.0, 20.0, 10.0, 1.0)
    sizes: tuple[int, ...] = (4000, 5000, 5500, 6000, 8000)
    calm: tuple[float, ...] = (0.8, 0.95, 1.1, 1.5)
    loads: tuple[float, ...] = (0.6, 0.8, 0.9, 0.95, 1.0, 1.1, 1.5, 2.0, 5.0, 10.0, 20.0)
    count: int = 4000  # requests of the studies at other loads
    early: tuple[float, ...] = (0.0, 0.25, 0.5)
    words: tuple[float, ...] = (0.65, 0.75, 0.85, 1.0)
    limit: int | None = None  # requests of a trace


FULL = Plan()
QUICK = Plan(
    seeds=(0, 1),
    phases=(LEARNING.sized(100), STRESS.sized(200)),
    steps=("30 ms",),
    patience_s=(100.0, 1.0),
    sizes=(300,),
    calm=(1.1,),
    loads=(0.9, 2.0),
    count=300,
    early=(0.25,),
    words=(0.75, 1.0),
    limit=1000,
)
Job = tuple[str, Callable[..., Any], tuple[Any, ...]]


def jobs(plan: Plan, traces: Path) -> list[Job]:
    """What is to be done, by the part of the page that shows it; long ones first."""
    learning, stress = plan.phases
    longer = [stress.sized(n) for n in plan.sizes]
    present = [(name, traces / path) for name, path in TRACES.items() if (traces / path).exists()]
    cases = [(name, steps, seed, plan.phases) for steps in plan.steps for name in ENGINES[::-1] for seed in plan.seeds]
    return [
        *(("cases", found_in, case) for case in cases),
        *(("traces", trace_rows, (name, path, plan.limit)) for name, path in present),
        *(("loads", load_row, (name, at, plan.count, plan.seeds)) for name in ENGINES for at in plan.loads),
        *(("units", unit_row, (early, ratio, plan.phases, plan.seeds)) for early in plan.early for ratio in plan.words),
        *(("patience", patience_row, (patience_s, stress, plan.seeds)) for patience_s in plan.patience_s),
        *(("sizes", size_row, (phase, plan.seeds)) for phase in (learning, stress, *longer)),
        *(("calm", calm_row, (at, plan.count, plan.seeds)) for at in plan.calm),
    ]


def work(todo: Sequence[Job], workers: int = 2) -> dict[str, list[Any]]:
    """Do the jobs, here or in processes of their own, and say how far it is; results in order, by part."""
    found: dict[str, list[Any]] = {part: [] for part, *_ in todo}
    began = time.perf_counter()
    for n, ((part, *_), result) in enumerate(zip(todo, _results(todo, workers), strict=True), 1):
        found[part].append(result)
        last = n == len(todo)
        if last or n % 5 == 0:
            print(f"{n}/{len(todo)} {part}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def _results(todo: Sequence[Job], workers: int) -> Iterator[Any]:
    if workers == 1:
        yield from (do(*arguments) for _, do, arguments in todo)
        return
    # Forked children of a process whose polars has threads may hang: these start afresh.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(do, *arguments) for _, do, arguments in todo]
        yield from (future.result() for future in waiting)


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay, and write the page and its figures."""
    parser = argparse.ArgumentParser(description="Reproduce DriftSched.")
    parser.add_argument("--quick", action="store_true", help="two seeds of small phases: to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "papers")
    parser.add_argument(
        "--traces", type=Path, default=Path("traces"), help="folder of public traces, where there is one"
    )
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else FULL
    found = work(jobs(plan, given.traces), given.workers)
    for name, svg in driftsched_figures.figures(found).items():
        write(given.out / "figures" / f"driftsched-{name}.svg", svg)
    page = given.out / "driftsched.md"
    page.write_text(driftsched_page.page(found, plan.seeds, plan.phases, plan.count, quick=given.quick))
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
