"""Markdown tables and intervals over seeds, for the reproductions' pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.readable import number


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval; NaN ends for one seed."""

    mean: float
    low: float
    high: float


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed, and Student's interval around it."""
    from scipy.special import stdtrit

    sample = np.asarray(values, float)
    if len(sample) < 2:
        return Estimate(float(sample.mean()), float("nan"), float("nan"))
    half = float(stdtrit(len(sample) - 1, 0.975) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return Estimate(float(sample.mean()), float(sample.mean()) - half, float(sample.mean()) + half)


def change(values: Sequence[float], against: Sequence[float]) -> Estimate:
    """By how much `values` differ from `against`, as a share, seed by seed."""
    return over_seeds([value / other - 1 for value, other in zip(values, against, strict=True)])


def shown(found: Estimate) -> str:
    """`mean ± half its interval`."""
    half = "" if np.isnan(found.low) else f" ± {number(found.mean - found.low)}"
    return number(found.mean) + half


def percent(found: Estimate) -> str:
    """A share as per cent with its sign and interval."""
    if np.isnan(found.low):
        return f"{100 * found.mean:+.1f} %"
    return f"{100 * found.mean:+.1f} % [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of the same keys as a Markdown table; numbers are written short, estimates with their interval."""
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [names, ["---"] * len(names), *cells])


def _cell(value: object) -> str:
    if isinstance(value, Estimate):
        return shown(value)
    if isinstance(value, float | np.floating):
        return number(float(value))
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
