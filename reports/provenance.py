"""How it was made: every setting of every run, flat and side by side, and the words for what matters most."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from reports import words
from reports.measured import Measured
from reports.resampling import FEWEST
from toolkit import __version__
from toolkit.errors import printable

LAST = ("command",)  # has a place of its own
LONG = 300


@dataclass(frozen=True)
class Setting:
    """One setting as every run has it, in the runs' order."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def settings(runs: list[Measured]) -> list[Setting]:
    """Every entry of every run.json; nested names are joined with dots."""
    flat = [dict(_flat(run.info)) for run in runs]
    names = dict.fromkeys(name for each in flat for name in each if name not in LAST)
    return [Setting(name, [each.get(name, words.DASH) for each in flat]) for name in names]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _flat(below, f"{name}.{printable(str(key))}" if name else printable(str(key)))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        for place, each in enumerate(value):
            yield f"{name}.{printable(str(each.get('name', place)))}", _entry(each)
    else:
        yield name, _text(value)


def _entry(value: Mapping[str, Any]) -> str:
    """One of several alike, in a line: what it says, without its name and what it leaves open."""
    said = {k: v for k, v in value.items() if k != "name" and v is not None and v != []}
    return _text([f"{k} {v}" for k, v in said.items()])


def _text(value: Any) -> str:
    if value is None:
        return words.DASH
    if isinstance(value, list):
        value = ", ".join(str(v) for v in value) or "none"
    text = printable(str(value) if value != {} else "none")
    return text if len(text) <= LONG else text[:LONG] + "…"


def value(info: Mapping[str, Any], *path: str) -> Any:
    """The entry at `path`, null where any part of it is missing."""
    found: Any = info
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def shared(runs: list[Measured], *path: str) -> str:
    """The entry if all runs have the same, else how many there are."""
    found = {words.UNKNOWN if (v := value(run.info, *path)) is None else _text(v) for run in runs}
    return found.pop() if len(found) == 1 else f"{len(found)} different"


def load(runs: list[Measured]) -> str:
    """The load ρ of the runs, as given by the engine."""
    known = [v for run in runs if isinstance(v := value(run.info, "utilisation"), int | float)]
    if len(known) < len(runs):
        return words.UNKNOWN
    low, high = min(known), max(known)
    return words.number(low) if words.number(low) == words.number(high) else f"{words.number(low)}–{words.number(high)}"


def limits(run: Measured) -> str:
    """What the engine could hold and do at once, by its own names, and the load that it was under."""
    known = value(run.info, "engine", "limits")
    said = ", ".join(f"{name} {text}" for name, text in _flat(known)) if isinstance(known, Mapping) and known else ""
    return f"{said or words.UNKNOWN}; load ρ {load([run])}"


def engine(runs: list[Measured]) -> str:
    """The engine's name from run.json, else from the outcomes."""
    if all(value(run.info, "engine", "name") for run in runs):
        return shared(runs, "engine", "name")
    names = {str(n) for run in runs for n in run.frame["engine"].cast(pl.String).unique().drop_nulls()}
    return printable(words.listing(sorted(names))) or words.UNKNOWN


def verdict(run: Measured) -> str:
    """What the run says of itself; a simulation that was held against nothing says that."""
    said = value(run.info, "verdict")
    if said is not None:
        return printable(str(said))
    return "ACCURACY UNKNOWN" if engine([run]) == "simulated" else "VERDICT UNKNOWN"


def dropped(run: Measured) -> list[tuple[str, str]]:
    """Rows that reading the trace dropped, by reason."""
    reasons = value(run.info, "trace", "dropped")
    return [(printable(str(k)), words.whole(v)) for k, v in reasons.items()] if isinstance(reasons, Mapping) else []


def notes(run: Measured) -> list[str]:
    """What the run says of itself: what its engine cannot do, or did otherwise than was intended."""
    said = value(run.info, "notes")
    return [printable(str(note)) for note in said] if isinstance(said, list) else []


def send_lag(run: Measured) -> str:
    """How late requests were sent; none is sent late in a simulation."""
    lag = run.frame["send_lag_s"].drop_nulls()
    if lag.is_empty():
        return words.UNKNOWN
    p50, p99, worst = (float(v) for v in np.quantile(lag.to_numpy(), [0.5, 0.99, 1]))
    unit = words.unit_for("send_lag_s", [worst])
    return f"P50 {unit.show(p50)}, P99 {unit.show(p99)}, at most {unit.spell(worst)}"


def _of_intervals(blocks: int, replicates: int) -> str:
    if blocks < FEWEST:
        return (
            "There are no intervals: they are drawn from blocks of requests, and these requests are too few for that."
        )
    return (
        f"Intervals are 95 % percentile intervals of a block bootstrap over time: {replicates} times {blocks} blocks "
        "of consecutive requests are drawn with replacement, because requests that follow each other wait in the same "
        "queue. They say how far another stretch of the same traffic may differ, not how right a simulation is."
    )


def methods(paired: bool | None, blocks: int, replicates: int, *, step_time: bool, warm_up: int) -> list[str]:
    """What a reader must know of how the numbers were made."""
    said = [
        "Every latency counts from the intended arrival, so time that a request waited to be sent is in it.",
        "Percentiles are of completed requests, interpolated linearly between order statistics (Hyndman and Fan, type "
        "7). Requests that failed have no latency; they count as misses of every objective.",
        "P99.9 is shown from 10 000 completed requests on; below, it rests on fewer than ten of them.",
        _of_intervals(blocks, replicates),
        f"{words.whole(warm_up)} requests that only warmed up are left out; all others that were offered count, those "
        "that ended after the last arrival too."
        if warm_up
        else "No warm-up is cut and the drain after the last arrival is included: all offered requests count.",
        "Goodput is requests that met every objective they had, over the time from first arrival to last finish.",
    ]
    if step_time:
        said.append(
            "Bands of step time are the same replay again with every step 5 and 10 % shorter and longer: how far an "
            "error of the latency model carries. They hold no sampling error, and the intervals hold no model error."
        )
    if paired is not None:
        said.append(
            "The runs were offered the same requests at the same times and are paired by request_id: both sides of a "
            "difference are drawn with the same blocks."
            if paired
            else "Not all runs were offered the same requests at the same times: where they were not, blocks are drawn "
            "independently, so intervals of differences are wider."
        )
    return [*said, f"Made by trace-toolkit {__version__}."]
