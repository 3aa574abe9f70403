"""A map as SVG: cells coloured by a name, with the name and a second line written in them."""

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = (
    "#d9d9d9",
    "#66c2a5",
    "#8da0cb",
    "#e5c494",
    "#fc8d62",
    "#ffd92f",
    "#f0e442",
    "#e69f00",
    "#b3b3ff",
    "#56b4e9",
    "#cc79a7",
)
LABEL, CELL, ROW, TOP = 230, 230, 46, 58
Cell = tuple[str, str]  # what colours it, what else is written


def grid(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[Cell]], names: Sequence[str]) -> str:
    """A row of cells for each name of `rows`, one for each of `columns`; coloured by their place in `names`."""
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    width, height = LABEL + CELL * len(columns) + 10, TOP + ROW * len(rows) + 10
    parts = [_text(10, 22, title, "start", "font-weight='bold' font-size='14'")]
    parts += [_text(LABEL + CELL * (n + 0.5), TOP - 10, name, "middle") for n, name in enumerate(columns)]
    for place, (label, cells) in enumerate(rows.items()):
        top = TOP + ROW * place
        parts.append(_text(LABEL - 10, top + ROW / 2 + 4, label, "end"))
        for n, (name, more) in enumerate(cells):
            left = LABEL + CELL * n
            box = f"x='{left}' y='{top}' width='{CELL - 3}' height='{ROW - 3}'"
            parts.append(f"<rect {box} fill='{colours[name]}'/>")
            parts.append(_text(left + CELL / 2, top + 18, name, "middle", "font-weight='bold'"))
            parts.append(_text(left + CELL / 2, top + 34, more, "middle", "font-size='10.5'"))
    ground = f"<rect width='{width}' height='{height}' fill='#fff'/>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='sans-serif'"
    return f"{head} font-size='12' fill='#222'>\n{ground}\n" + "\n".join(parts) + "\n</svg>\n"


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {more}>{escape(text)}</text>"
