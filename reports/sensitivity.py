"""What other step times would make of a run's percentiles, and the sentences that say it.

SENSITIVITY holds the same replay with every step a little shorter or longer: how far an error of the latency model
carries. It has no sampling error in it, so it stands beside the bootstrap's interval and never replaces it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from reports import words
from reports.measured import Measured
from reports.resampling import Floats
from reports.words import Unit, percent, unit_for

INNER, OUTER = (0.95, 1.05), (0.9, 1.1)
SCALES = (OUTER[0], *INNER, OUTER[1])  # step_time_scale; 1 is the run itself
SATURATED = 0.25  # the share of P99 that 5 % of step time may move before the page warns
WARNED = ("e2e_s", "ttft_s", "tpot_s")
SAID = 3  # runs in one sentence

Curves = dict[float, tuple[Floats, Floats]]  # step_time_scale -> levels, rising, and the value at each


def curves(run: Measured, metric: str) -> Curves:
    """The quantiles of `metric` under other step times; empty where the run holds none."""
    scale = pl.col("step_time_scale").round(6)
    known = run.sensitivity.filter(pl.col("metric") == metric, scale.is_in(SCALES), pl.col("value").is_finite())
    once = known.unique(["step_time_scale", "quantile"], keep="last").sort("step_time_scale", "quantile")
    parts = once.group_by(scale, maintain_order=True)
    return {float(s): (p["quantile"].to_numpy(), p["value"].to_numpy()) for (s,), p in parts}


def percentiles(found: Curves, levels: Mapping[str, float]) -> dict[str, dict[str, float | None]] | None:
    """Each scale's percentiles by name; null where there is no curve, or the curve lacks that level."""
    return {f"{scale:g}": {name: _at(*found[scale], q) for name, q in levels.items()} for scale in found} or None


def _at(levels: Floats, values: Floats, level: float) -> float | None:
    place = np.flatnonzero(np.isclose(levels, level, rtol=0, atol=1e-9))
    return float(values[place[0]]) if len(place) else None


def p99_range(found: dict[str, Any]) -> tuple[float, float] | None:
    """The smallest and largest P99 of one metric's numbers within 5 % of step time."""
    near = [v for scale in INNER if (v := _p99(found, scale)) is not None]
    own = found["p99"]
    return (min(*near, own["value"]), max(*near, own["value"])) if near and own else None


def _p99(found: dict[str, Any], scale: float) -> float | None:
    value: float | None = ((found["step_time"] or {}).get(f"{scale:g}") or {}).get("p99")
    return value


def move(run: dict[str, Any], metric: str) -> tuple[float, float] | None:
    """By what share of itself 5 % of step time moves the run's P99 of `metric` at most, and the scale that does."""
    found = run["metrics"][metric]
    own = (found["p99"] or {}).get("value")
    near = [(scale, value) for scale in INNER if (value := _p99(found, scale)) is not None]
    return max((abs(value / own - 1), scale) for scale, value in near) if own and near else None


def near_saturation(run: dict[str, Any]) -> bool | None:
    """Null where nothing is known of other step times."""
    moves = [found[0] for metric in WARNED if (found := move(run, metric))]
    return max(moves) > SATURATED if moves else None


def warning(numbers: list[dict[str, Any]]) -> str:
    """The warning at the head of the page, the run that moves most first; empty where none is near saturation."""
    moved = [found for run in numbers if (found := _warned(run))]
    moved.sort(key=lambda each: -each[0])
    parts = [_would(run, metric, scale, len(numbers) > 1) for _, scale, metric, run in moved[:SAID]]
    more = f"; and so for {len(moved) - SAID} more" if len(moved) > SAID else ""
    tail = "A small error of the latency model decides this tail: read it as a range."
    return f"Near saturation: {'; '.join(parts)}{more}. {tail}" if parts else ""


def _warned(run: dict[str, Any]) -> tuple[float, float, str, dict[str, Any]] | None:
    """The first metric of WARNED that moves too far: the share, the scale, the metric, the run."""
    moves = ((metric, move(run, metric)) for metric in WARNED)
    return next(((*found, metric, run) for metric, found in moves if found and found[0] > SATURATED), None)


def _would(run: dict[str, Any], metric: str, scale: float, named: bool) -> str:
    found = run["metrics"][metric]
    own, value = found["p99"]["value"], _p99(found, scale) or 0.0
    instead = _instead(value, own, unit_for(metric, [own]), run["name"] if named else "")
    return f"{_were(scale)}, P99 {words.named(metric)} would be {instead} ({percent(value / own - 1, signed=True)})"


def _were(scale: float) -> str:
    return f"were every step {abs(scale - 1) * 100:.2g}\u202f% {'slower' if scale > 1 else 'faster'}"


def _instead(value: float, own: float, unit: Unit, at: str) -> str:
    return f"{unit.spell(value)} instead of {unit.spell(own)}{f' in {at}' if at else ''}"


def note(values: list[tuple[str, float, float]], metric: str, unit: Unit, *, outer: bool) -> str:
    """The chart's sentence. `values`: each run's label, its P99 with slower steps and its own."""
    parts = [_instead(value, own, unit, label) for label, value, own in values[:SAID]]
    said = (
        f" {_were(INNER[1]).capitalize()}, P99 {words.named(metric)} would be {words.listing(parts)}." if parts else ""
    )
    dotted = "; dotted: 10\u202f%" if outer else ""
    return f"{said} Dashed: every step 5\u202f% faster and slower{dotted}."
