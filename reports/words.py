"""Numbers as people read them: three significant digits, a unit chosen for the data, a sign that shows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

DASH = "–"
UNKNOWN = "unknown"

TITLES = {
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "e2e_s": "E2E",
    "queueing_delay_s": "Queueing delay",
    "slowdown": "Slowdown",
}
MEANINGS = {
    "ttft_s": "time to first token, from the intended arrival",
    "tpot_s": "time per output token after the first",
    "e2e_s": "from the intended arrival to the last token",
    "queueing_delay_s": "from the intended arrival to being scheduled first",
    "slowdown": "E2E over the E2E of the same request alone on an idle engine",
}


def named(metric: str) -> str:
    """A metric's name within a phrase."""
    title = TITLES[metric]
    return title if title.isupper() else title.lower()


@dataclass(frozen=True)
class Unit:
    """What a value is multiplied by to be shown, and its name."""

    factor: float
    name: str

    def show(self, value: float | None) -> str:
        return number(None if value is None else value * self.factor)

    def spell(self, value: float | None) -> str:
        """The value with its unit."""
        return f"{self.show(value)} {self.name}".strip()


def unit_for(metric: str, values: Iterable[float | None]) -> Unit:
    """Milliseconds when most of `values` (in s) are below half a second; no unit for a bare ratio."""
    if not metric.endswith("_s"):
        return Unit(1.0, "×")
    known = sorted(abs(v) for v in values if v is not None and math.isfinite(v))
    small = bool(known) and known[len(known) // 2] < 0.5
    return Unit(1_000.0, "ms") if small else Unit(1.0, "s")


def number(value: float | None) -> str:
    """Three significant digits, thousands apart by a thin space, – for what is undefined."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e15 or size < 1e-6:
        return f"{value:.2e}"
    rounded = round(value, 2 - math.floor(math.log10(size)))
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))  # 9.999 is 10.0
    return f"{rounded:,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")


def whole(value: float | None) -> str:
    """A count, in full."""
    return DASH if value is None else f"{int(value):,}".replace(",", "\u202f")


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share as a percentage; 100 % and 0 % only when exact."""
    if share is None or not math.isfinite(share):
        return DASH
    value = share * 100
    if signed:
        return f"{'+' if value > 0 else ''}{number(value)}\u202f%"
    if 99 < value < 100:
        return f"{math.floor(value * 100) / 100:g}\u202f%"
    return f"{number(value)}\u202f%"


def signed(text: str) -> str:
    """`text` (of `number`) with a plus sign where it is above zero."""
    return text if text.startswith(("\u2212", DASH)) or text == "0" else f"+{text}"


def duration(seconds: float | None) -> str:
    """A span as people say it: 42 s, 17.5 min, 3.2 h, 2.5 days."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    for size, name in ((86_400 * 2, "days"), (3_600 * 2, "h"), (120, "min")):
        if seconds >= size:
            return f"{number(seconds / {'days': 86_400, 'h': 3_600, 'min': 60}[name])} {name}"
    return f"{number(seconds)} s"


def listing(names: list[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
