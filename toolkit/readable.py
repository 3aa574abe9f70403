"""Numbers for people: three significant digits, thousands apart, times in a unit that fits, and a small chart."""

from collections.abc import Sequence
from math import isfinite, log10

import numpy as np

UNKNOWN = "–"
BARS = "▁▂▃▄▅▆▇█"
TIME_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def number(value: float | None) -> str:
    """1,234 · 12.3 · 0.0123; whole numbers keep all their digits."""
    if value is None or not isfinite(value):
        return UNKNOWN
    if value == int(value) or abs(value) >= 1000:
        return f"{round(value):,}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - int(np.floor(log10(abs(value)))))}f}"


def seconds(value: float | None) -> str:
    """A duration in the largest unit that it fills twice (days, hours, minutes) or once (shorter)."""
    if value is None or not isfinite(value):
        return UNKNOWN
    for unit, name in TIME_UNITS:
        if abs(value) >= (2 * unit if unit > 1 else unit * 0.9995):
            return f"{number(value / unit if unit >= 1 else round(value / unit, 3))} {name}"
    return "0 s" if value == 0 else f"{value:.2e} s"


def percent(share: float | None) -> str:
    """19.7 %"""
    return UNKNOWN if share is None or not isfinite(share) else f"{100 * share:.1f} %"


def spark(values: Sequence[float], width: int) -> str:
    """A line of bars from 0 to the largest value; neighbours are averaged to fit `width`."""
    parts = [part.mean() for part in np.array_split(np.asarray(values, dtype=np.float64), min(width, len(values)))]
    top = max(parts, default=0)
    return "".join(BARS[min(7, int(8 * part / top))] if part > 0 else " " for part in parts) if top else ""
