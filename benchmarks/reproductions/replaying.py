"""Replays in memory: a trace, a scheduler and an engine give OUTCOMES and what run.json would say, without a folder."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar, cast

import polars as pl

from toolkit import plugins
from toolkit.protocols import Engine, Scheduler
from toolkit.runs import RunWriter
from toolkit.schema import OUTCOMES, TRACE, conform
from toolkit.traces import TraceInfo

Case = TypeVar("Case")
Row = dict[str, Any]


@dataclass
class InMemory:
    """Takes what an engine writes into a run folder, and keeps OUTCOMES and the summary."""

    parts: list[pl.DataFrame] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    path: Path = Path("in memory")  # holds no checkpoint

    def append(self, name: str, frame: pl.DataFrame) -> None:
        if name == "outcomes" and not frame.is_empty():
            self.parts.append(frame)

    def truncate(self, counts: dict[str, int]) -> None:
        self.parts.clear()

    def part_counts(self) -> dict[str, int]:
        return {"outcomes": len(self.parts)}

    def write_bytes(self, name: str, data: bytes) -> None: ...

    def finish(self, **results: Any) -> None:
        self.summary = results


class Unwatched:
    """Never stops a replay."""

    def progress(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool:
        return False


def outcomes(
    trace: pl.DataFrame, info: TraceInfo, scheduler: str | Scheduler, engine: Engine
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Replay `trace` under `scheduler` (its spec, or itself) to the end: OUTCOMES by request_id, and the summary.

    The summary has `requests`, `steps`, `preemptions`, `busy_s`, `simulation_cpu_s`, `offered_per_s` and `utilisation`
    (ρ). Give the simulated engine `band=False`, or it replays four times more.
    """
    folder = InMemory()
    policy: Scheduler = plugins.create("scheduler", scheduler) if isinstance(scheduler, str) else scheduler
    finished = engine.replay(trace, info, policy, cast(RunWriter, folder), Unwatched())
    assert finished
    found = pl.concat(folder.parts).sort("request_id")
    return conform(found, OUTCOMES, source="replay"), folder.summary


def trace_of(rows: pl.DataFrame, name: str, **known: Any) -> tuple[pl.DataFrame, TraceInfo]:
    """A TRACE and its info from rows with any of its columns; request_id counts from 0 in arrival order."""
    ordered = rows.sort("arrival_s", maintain_order=True).with_row_index("request_id")
    span_s = float(ordered["arrival_s"].fill_null(0.0).max() or 0.0)  # type: ignore[arg-type]
    info = TraceInfo(name, "canonical", "", len(rows), len(rows), span_s=span_s, **known)
    return conform(ordered, TRACE, source=name), info


def rows_of_all(
    run: Callable[[Case], list[Row]], cases: Sequence[Case], workers: int, report: Callable[[int, int], None]
) -> pl.DataFrame:
    """The rows of every case, `workers` cases at a time, in the order of the cases whatever order they ended in."""
    found: dict[int, list[Row]] = {}
    for place, rows in _ended(run, cases, workers):
        found[place] = rows
        report(len(found), len(cases))
    return pl.DataFrame([row for place in range(len(cases)) for row in found[place]], infer_schema_length=None)


def _ended(run: Callable[[Case], list[Row]], cases: Sequence[Case], workers: int) -> Iterator[tuple[int, list[Row]]]:
    if workers == 1:
        yield from ((place, run(case)) for place, case in enumerate(cases))
        return
    # Children forked from a process whose polars has threads may hang: these start afresh.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        places = {pool.submit(run, case): place for place, case in enumerate(cases)}
        yield from ((places[future], future.result()) for future in as_completed(places))
