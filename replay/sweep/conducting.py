"""Brings a sweep to its end: what is still missing of its grid, then the rounds of its search."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import polars as pl

from replay.sweep.capacity import capacity_row, combinations, estimates, next_value, rungs
from replay.sweep.points import Point, grid
from replay.sweep.source import Source
from replay.sweep.spec import Search
from replay.sweep.store import SweepStore
from replay.sweep.work import Demand, Task, baselines_of, demand_of, row_of
from toolkit.errors import SettingFailure
from toolkit.executors import Executor, Failed

Item = TypeVar("Item")
Result = TypeVar("Result")
Report = Callable[[int, int], None]  # points done, points known to be wanted


class Conductor:
    """One sweep under way."""

    def __init__(self, source: Source, store: SweepStore, executor: Executor, report: Report):
        self.source, self.store, self.executor, self.report = source, store, executor, report
        self.baselines: dict[int, pl.DataFrame] = {}
        self.demands: dict[tuple[int, float], Demand] = {}
        self.done = self.wanted = 0

    def run(self) -> None:
        """Replay whatever is missing, and finish the folder."""
        self.replay(grid(self.source.sweep, self.source.cluster))
        search = self.source.sweep.search
        self.store.finish(self._search(search) if search else [])

    def replay(self, points: Sequence[Point]) -> None:
        """Add the rows of those points that have none."""
        missing = [point for point in points if not self.store.has(point)]
        self.wanted += len(missing)
        self.report(self.done, self.wanted)
        tasks = self._tasks(missing)
        for task, result in self.executor.map(partial(row_of, self.source), tasks):
            if isinstance(result, Failed) and result.detail:
                self.store.log(f"{task.point}\n{result.detail}")
            self.store.add(task.point, {"error": result.said} if isinstance(result, Failed) else result)
            self.done += 1
            self.report(self.done, self.wanted)

    def _tasks(self, points: Sequence[Point]) -> list[Task]:
        """The points with what several of them share, which is worked out first."""
        if self.source.sweep.slo_scale:
            self._learn(self.baselines, baselines_of, [p.seed for p in points])
        self._learn(self.demands, demand_of, [(p.seed, p.load) for p in points])
        return [Task(p, self.demands[p.seed, p.load], self.baselines.get(p.seed)) for p in points]

    def _learn(self, known: dict[Item, Result], work: Callable[[Source, Item], Result], items: Sequence[Item]) -> None:
        """Fill in what is not known yet; a failure here is one of every point."""
        new = [item for item in dict.fromkeys(items) if item not in known]
        for item, result in self.executor.map(partial(work, self.source), new):
            if isinstance(result, Failed):
                raise RuntimeError(result.detail) if result.detail else SettingFailure(result.said)
            known[item] = result

    def _search(self, search: Search) -> list[dict[str, Any]]:
        """Rows of CAPACITY; each round tries one value for every combination that needs another."""
        sweep, values = self.source.sweep, rungs(search)
        every = combinations(sweep, self.source.cluster, search)
        while True:
            table = self.store.table()
            _check_objectives(table)
            known = {at: estimates(table, at, search, values) for at in every}
            tries = [(at, value) for at in every if (value := next_value(known[at], search, values)) is not None]
            if not tries:
                return [capacity_row(at, known[at], search, values) for at in every]
            points = [point for at, value in tries for point in at.points(value, sweep.seeds)]
            self.replay(sorted(points, key=lambda p: (p.seed, p.load)))


def _check_objectives(table: pl.DataFrame) -> None:
    done = table.filter(pl.col("error").is_null())
    if len(done) and not done["with_slo"].sum():
        hint = "give slo_scale, or the cluster's models slo_ttft_s and slo_tpot_s"
        raise SettingFailure("no request has an objective that attainment could be of", where="search", hint=hint)
