"""Small figures as SVG text, for a page on a git host: lines with bands, bars with whiskers; on a white ground.

Series share one plot; colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from pathlib import Path

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 80
LEGEND_ROW = 16


@dataclass(frozen=True)
class Line:
    """A series; `low` and `high` make a band, `dashed` tells a reference from a measurement."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Bars:
    """A series of bars, one for each category of the figure; NaN leaves one out."""

    name: str
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Axis:
    """What an axis shows: its ends, where it has ticks, and whether it is logarithmic."""

    label: str
    first: float
    last: float
    ticks: Sequence[float]
    log: bool = False

    def share(self, value: float) -> float:
        """Where `value` lies, 0 at the first end and 1 at the last."""
        if self.log:
            return (log10(value) - log10(self.first)) / (log10(self.last) - log10(self.first))
        return (value - self.first) / (self.last - self.first)


def lines(
    title: str,
    x: str,
    y: str,
    series: Sequence[Line],
    *,
    log_x: bool = False,
    log_y: bool = False,
    marks: Sequence[tuple[float, float]] = (),
) -> str:
    """A line figure; axes are labelled `x` and `y`, with units; `marks` are intervals of x, grey from top to bottom."""
    xs, ys = _axis(x, [s.x for s in series], log_x), _axis(y, [v for s in series for v in _extent(s)], log_y)
    parts = [*_frame(title, xs, ys, [s.name for s in series])]
    parts += [_ticks_below(xs), *(_mark(xs, *interval) for interval in marks)]
    for colour, one in zip(_colours(series), series, strict=True):
        parts += [_band(one, xs, ys, colour), _path(one, xs, ys, colour)]
    return _svg(parts, len(series))


def bars(title: str, categories: Sequence[str], y: str, series: Sequence[Bars], *, log_y: bool = False) -> str:
    """A bar figure: for each category one bar a series, whiskers from `low` to `high`."""
    zero: list[Sequence[float]] = [] if log_y else [[0.0]]
    xs = Axis("", 0, len(categories), ())
    ys = _axis(y, [v for s in series for v in _extent(s)] + zero, log_y)
    parts = [*_frame(title, xs, ys, [s.name for s in series])]
    for place, name in enumerate(categories):
        parts.append(_text(_x(xs, place + 0.5), HEIGHT - BOTTOM + 18, name, "middle"))
    step = 0.8 / len(series)
    for n, (colour, one) in enumerate(zip(_colours(series), series, strict=True)):
        parts += [_bar(one, place, place + 0.1 + n * step, step, xs, ys, colour) for place in range(len(categories))]
    return _svg(parts, len(series))


def write(path: Path, svg: str) -> None:
    """Write a figure, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg)


def _extent(series: Line | Bars) -> list[Sequence[float]]:
    return [v for v in (series.y, series.low, series.high) if v is not None]


def _axis(label: str, values: Iterable[Sequence[float]], log: bool) -> Axis:
    every = np.concatenate([np.asarray(v, float) for v in values])
    known = every[np.isfinite(every) & ((every > 0) | (not log))]
    first, last = float(known.min()), float(known.max())
    if log:
        low, high = floor(log10(first)), ceil(log10(last) + 1e-9)
        ticks = [m * 10.0**e for e in range(low, high + 1) for m in ((1, 2, 5) if high - low < 3 else (1,))]
        within = [t for t in ticks if first / 2.5 < t < last * 2.5]
        return Axis(label, min(first, within[0]), max(last, within[-1]), within, True)
    step = _step((last - first) or abs(last) or 1.0)
    low_tick, high_tick = floor(first / step), ceil(last / step)
    high_tick += high_tick == low_tick
    return Axis(label, low_tick * step, high_tick * step, [n * step for n in range(low_tick, high_tick + 1)])


def _step(span: float) -> float:
    """The round number that cuts `span` into four to nine."""
    size = 10.0 ** floor(log10(span / 5))
    return next(m * size for m in (1, 2, 2.5, 5, 10) if span / (m * size) <= 8)


def _frame(title: str, xs: Axis, ys: Axis, names: Sequence[str]) -> Iterable[str]:
    yield _text(LEFT, 22, title, "start", "font-weight='bold' font-size='14'")
    for tick in ys.ticks:
        height = _y(ys, tick)
        yield f"<path d='M{LEFT} {height:.1f}H{WIDTH - RIGHT}' stroke='#888' stroke-opacity='.3'/>"
        yield _text(LEFT - 6, height + 4, f"{tick:,.6g}", "end")
    yield _text(0, 0, ys.label, "middle", f"transform='translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)'")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 38, xs.label, "middle")
    for n, (colour, name) in enumerate(zip(_colours(names), names, strict=True)):
        x, y = LEFT + n % 3 * 215, HEIGHT - BOTTOM + 58 + n // 3 * LEGEND_ROW
        yield f"<rect x='{x}' y='{y - 9}' width='12' height='10' fill='{colour}'/>" + _text(x + 17, y, name, "start")


def _ticks_below(xs: Axis) -> str:
    return "".join(_text(_x(xs, t), HEIGHT - BOTTOM + 18, f"{t:,.6g}", "middle") for t in xs.ticks)


def _path(one: Line, xs: Axis, ys: Axis, colour: str) -> str:
    dash = " stroke-dasharray='6 4'" if one.dashed else ""
    return f"<polyline points='{_points(one.x, one.y, xs, ys)}' fill='none' stroke='{colour}' stroke-width='2'{dash}/>"


def _mark(xs: Axis, low: float, high: float) -> str:
    left = _x(xs, low)
    size = f"width='{max(1.5, _x(xs, high) - left):.1f}' height='{HEIGHT - TOP - BOTTOM}'"
    return f"<rect x='{left:.1f}' y='{TOP}' {size} fill='#888' fill-opacity='.45'/>"


def _band(one: Line, xs: Axis, ys: Axis, colour: str) -> str:
    if one.low is None or one.high is None:
        return ""
    around = f"{_points(one.x, one.low, xs, ys)} {_points(list(one.x)[::-1], list(one.high)[::-1], xs, ys)}"
    return f"<polygon points='{around}' fill='{colour}' fill-opacity='.18'/>"


def _bar(one: Bars, place: int, left: float, width: float, xs: Axis, ys: Axis, colour: str) -> str:
    if not np.isfinite(one.y[place]):
        return ""
    from_x, to_x, foot = _x(xs, left), _x(xs, left + width), _y(ys, max(ys.first, 0.0) if not ys.log else ys.first)
    top, bottom = sorted((_y(ys, one.y[place]), foot))
    size = f"width='{to_x - from_x - 1:.1f}' height='{bottom - top:.1f}'"
    drawn = f"<rect x='{from_x:.1f}' y='{top:.1f}' {size} fill='{colour}'/>"
    if one.low is None or one.high is None:
        return drawn
    middle, low, high = (from_x + to_x) / 2, _y(ys, one.low[place]), _y(ys, one.high[place])
    return drawn + f"<path d='M{middle:.1f} {low:.1f}V{high:.1f}' stroke='#888' stroke-width='2'/>"


def _points(x: Sequence[float], y: Sequence[float], xs: Axis, ys: Axis) -> str:
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(b) and (b > 0 or not ys.log)]
    return " ".join(f"{_x(xs, a):.1f},{_y(ys, b):.1f}" for a, b in pairs)


def _x(xs: Axis, value: float) -> float:
    return LEFT + xs.share(value) * (WIDTH - LEFT - RIGHT)


def _y(ys: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - ys.share(value) * (HEIGHT - TOP - BOTTOM)


def _colours(series: Sequence[object]) -> list[str]:
    return [COLOURS[n % len(COLOURS)] for n in range(len(series))]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {more}>{escape(text)}</text>"


def _svg(parts: Sequence[str], series: int) -> str:
    height = HEIGHT + max(0, (series - 1) // 3) * LEGEND_ROW
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif'"
    body = "\n".join(part for part in parts if part)
    ground = f"<rect width='{WIDTH}' height='{height}' fill='#fff'/>"
    return f"{head} font-size='12' fill='#222'>\n{ground}\n{body}\n</svg>\n"
