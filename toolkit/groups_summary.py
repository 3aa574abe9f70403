"""The groups block of the terminal's summary."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolkit.errors import printable
from toolkit.readable import number, percent, seconds

Frames = Mapping[str, pl.DataFrame]
SHOWN_GROUPS, SHOWN_NAMES = 12, 4


def groups(frames: Frames) -> RenderableType | None:
    """The verdict with its evidence, the groups, and Prism's measures."""
    if not frames["summary"].height:
        return None
    about = frames["summary"].row(0, named=True)
    lines = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, words in (("verdict", verdict(about)), ("power", power(about)), ("note", about["note"])):
        if words:
            lines.add_row(name, printable(words))
    if frames["prism"].height:
        lines.add_row("prism", prism(frames["prism"].row(0, named=True)))
    return Group(lines, _table(frames["groups"])) if frames["groups"].height else lines


def verdict(about: Mapping[str, Any]) -> str:
    """Whether there are groups, among how many, by which test."""
    if about["window_s"] is None:
        return "no groups: nothing could be tested"
    found = "no groups" if about["verdict"] == "none" else "groups"
    among = f"among {number(about['tested'])} {about['by']}s, in windows of {seconds(about['window_s'])}"
    return f"{found} {among}; such a trace without groups shows one in {percent(about['family_wise_error'])} at most"


def power(about: Mapping[str, Any]) -> str | None:
    """What would have been found."""
    if about["power_group"] is None:
        return None
    return f"four {about['by']}s that share half of their bursts would be found in {percent(about['power_group'])}"


def prism(row: Mapping[str, Any]) -> str:
    """The active set, in the paper's measures."""
    often = f"{number(row['switches_per_hour'])} switches/h"
    return f"{percent(row['mean_active_share'])} active within {seconds(row['active_window_s'])}, {often}"


def _table(found: pl.DataFrame) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("group")
    for column in ("p", "halves", "lift", "bursts", "from", "to"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("members", max_width=30, overflow="fold")
    for row in found.head(SHOWN_GROUPS).to_dicts():
        values = [number(row[k]) for k in ("p_value", "stability", "lift", "bursts")]
        table.add_row(row["id"], *values, seconds(row["start_s"]), seconds(row["end_s"]), _names(row["names"]))
    rest = found.height - SHOWN_GROUPS
    return Group(Padding(table, (0, 0, 0, 0)), Text(f"{rest} more", "dim")) if rest > 0 else table


def _names(names: list[str]) -> Text:
    more = f" +{len(names) - SHOWN_NAMES}" if len(names) > SHOWN_NAMES else ""
    return Text(", ".join(printable(name) for name in names[:SHOWN_NAMES]) + more)
