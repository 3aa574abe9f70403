"""The fewest GPUs, or the highest load, that serve well enough, for every combination of the other axes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil, isnan, log
from typing import Any

import polars as pl

from replay.cluster.spec import Cluster
from replay.sweep.bisection import first_good, monotone, next_rung
from replay.sweep.points import Point
from replay.sweep.spec import Scale, Search, Sweep
from toolkit.sweeps import over_seeds

COLUMN = {"joint": "attainment", "ttft": "attainment_ttft", "tpot": "attainment_tpot"}
NOT_A_NUMBER = float("nan")


@dataclass(frozen=True)
class Estimate:
    """Attainment at one rung: its mean over seeds and the ends of its interval; not a number where a replay failed."""

    mean: float = NOT_A_NUMBER
    low: float = NOT_A_NUMBER
    high: float = NOT_A_NUMBER
    utilisation: float | None = None
    seeds: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Combination:
    """What a capacity is looked for at: the axes that are not searched over."""

    placement: str
    scheduler: str
    gpus: int | None
    load: float | None
    slo_scale: Scale | None

    def points(self, value: float, seeds: Iterable[int]) -> list[Point]:
        """Its points where what is searched over is `value`."""
        gpus = int(value) if self.gpus is None else self.gpus
        load = value if self.load is None else self.load
        return [Point(self.placement, self.scheduler, gpus, load, self.slo_scale, seed) for seed in seeds]


def combinations(sweep: Sweep, cluster: Cluster, search: Search) -> list[Combination]:
    """All of them, as the lists go."""
    gpus = (None,) if search.over == "gpus" else sweep.gpus or (cluster.gpus[0].count,)
    load = (None,) if search.over == "load" else sweep.load or (1.0,)
    return [Combination(*each) for each in product(sweep.placements, sweep.compared, gpus, load, sweep.scales)]


def rungs(search: Search) -> list[float]:
    """The numbers of GPUs, or the loads (evenly apart in ratio, at most the tolerance), the hardest first."""
    if search.over == "gpus":
        return [float(n) for n in range(int(search.from_), int(search.to) + 1)]
    steps = ceil(log(search.to / search.from_) / log(1 + search.tolerance) - 1e-9)
    each = [
        search.from_ * (search.to / search.from_) ** (k / steps) if steps else search.from_ for k in range(steps + 1)
    ]
    return [float(f"{load:.4g}") for load in reversed(each)]


def estimates(table: pl.DataFrame, at: Combination, search: Search, values: list[float]) -> dict[int, Estimate]:
    """What is known of a combination, by rung."""
    ttft, tpot = at.slo_scale or (None, None)
    wanted = {"placement": at.placement, "scheduler": at.scheduler, "gpus": at.gpus, "load": at.load}
    wanted |= {"slo_scale_ttft": ttft, "slo_scale_tpot": tpot}
    del wanted[search.over]
    mine = table.filter(pl.col(name).eq_missing(value) for name, value in wanted.items())
    place = {value: rung for rung, value in enumerate(values)}
    rows = over_seeds(mine).filter(pl.col(search.over).cast(pl.Float64).is_in(list(place)))
    return {place[float(row[search.over])]: _estimate(row, COLUMN[search.metric]) for row in rows.iter_rows(named=True)}


def _estimate(row: dict[str, Any], column: str) -> Estimate:
    """Where a seed failed the others say nothing: what cannot be served is not good enough."""
    if row["error"] is not None or row[column] is None:
        return Estimate(error=row["error"] or "no request has an objective")
    low, high = (row[column] if row[f"{column}_{end}"] is None else row[f"{column}_{end}"] for end in ("low", "high"))
    return Estimate(row[column], low, high, row["utilisation"], row["seeds"])


def next_value(known: Mapping[int, Estimate], search: Search, values: list[float]) -> float | None:
    """What to try next: first for the mean, with the rungs around its answer, then for the ends of the interval."""
    for end in ("mean", "high", "low"):
        rung = next_rung(_good(known, end, search.attainment), len(values), look_around=end == "mean")
        if rung is not None:
            return values[rung]
    return None


def _good(known: Mapping[int, Estimate], end: str, wanted: float) -> dict[int, bool]:
    return {rung: getattr(estimate, end) >= wanted for rung, estimate in known.items()}


def capacity_row(at: Combination, known: Mapping[int, Estimate], search: Search, values: list[float]) -> dict[str, Any]:
    """A row of CAPACITY from all that was tried."""
    found = {end: first_good(_good(known, end, search.attainment)) for end in ("mean", "high", "low")}
    best = known[found["mean"]] if found["mean"] is not None else Estimate()
    ends = sorted((end for end in ("high", "low")), reverse=search.over == "load")
    low, high = (_value(found[end], values) for end in ends)
    ttft, tpot = at.slo_scale or (None, None)
    steady = monotone(_good(known, "mean", search.attainment))
    return {
        "placement": at.placement,
        "scheduler": at.scheduler,
        "gpus": at.gpus,
        "load": at.load,
        "slo_scale_ttft": ttft,
        "slo_scale_tpot": tpot,
        "over": search.over,
        "metric": search.metric,
        "wanted": search.attainment,
        "capacity": _value(found["mean"], values),
        "capacity_low": low,
        "capacity_high": high,
        "attainment": _known(best.mean),
        "attainment_low": _known(best.low),
        "attainment_high": _known(best.high),
        "utilisation": best.utilisation,
        "seeds": max((e.seeds for e in known.values()), default=0),
        "tried": len(known),
        "monotone": steady,
        "said": " ".join(
            [_answer(found["mean"], known, search, values), *_doubts(found, known, search, values, steady)]
        ),
    }


def _value(rung: int | None, values: list[float]) -> float | None:
    return None if rung is None else values[rung]


def _known(value: float) -> float | None:
    return None if isnan(value) else value


def _answer(rung: int | None, known: Mapping[int, Estimate], search: Search, values: list[float]) -> str:
    if rung is None:
        last = max(known)
        return f"Not even {_named(values[last], search)}: {_attained(known[last])}."
    said = f"{_named(values[rung], search)}: {_attained(known[rung])}"
    if rung == 0:
        return f"{said}; {'fewer' if search.over == 'gpus' else 'more'} were not asked for."
    return f"{said}; at {_named(values[rung - 1], search)} {_attained(known[rung - 1])}."


def _doubts(
    found: Mapping[str, int | None], known: Mapping[int, Estimate], search: Search, values: list[float], steady: bool
) -> list[str]:
    """What speaks against the answer."""
    said = []
    if found["mean"] is not None and found["low"] != found["mean"]:
        sure = "nothing tried" if found["low"] is None else f"only {_named(values[found['low']], search)}"
        said.append(f"By its interval, {sure} surely will do.")
    if found["high"] is not None and found["high"] != found["mean"]:
        said.append(f"By its interval, {_named(values[found['high']], search)} may do too.")
    if not steady:
        good = _good(known, "mean", search.attainment)
        worse = [r for r in sorted(good) if not good[r] and r > (first_good(good) or 0)]
        said.append(f"Not monotone: {_named(values[worse[0]], search)} serve worse, {_attained(known[worse[0]])}.")
    return said


def _named(value: float, search: Search) -> str:
    if search.over == "gpus":
        return f"{value:.0f} GPU{'s' if value != 1 else ''}"
    return f"load {value:.4g}"


def _attained(estimate: Estimate) -> str:
    if estimate.error is not None:
        return f"no result ({estimate.error})"
    return f"{100 * estimate.mean:.2f} % ({100 * estimate.low:.2f} to {100 * estimate.high:.2f})"
