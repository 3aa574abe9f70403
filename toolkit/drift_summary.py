"""Drift and clients for a terminal."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolkit.errors import printable
from toolkit.readable import number, percent, seconds, spark

Frames = dict[str, pl.DataFrame]
SHOWN_POINTS = 8
SHOWN_CLIENTS = 5
WIDTH = 48
SHORT = {
    "prompt_tokens": "prompt",
    "output_tokens": "output",
    "ratio": "output ÷ prompt",
    "estimate": "actual ÷ estimate",
}


def drift(frames: Frames) -> RenderableType | None:
    """A verdict a column, its change points and cause; the estimators before and after calibration."""
    if frames["summary"].is_empty() and frames["estimate"].is_empty():
        return None
    blocks: list[RenderableType] = []
    for row in frames["summary"].to_dicts():
        blocks += _column(frames, row)
    blocks += _tested(frames["summary"])
    if not frames["estimate"].is_empty():
        blocks.append(_estimates(frames))
    return Group(*blocks)


def _column(frames: Frames, row: dict[str, Any]) -> list[RenderableType]:
    own = pl.col("column") == row["column"]
    windows = frames["windows"].filter(own)
    blocks: list[RenderableType] = [_verdict(row)]
    if windows.height > 1 and windows["p50"].null_count() == 0:
        line = Text("median ", "dim")
        blocks.append(Padding(line.append(spark(windows["p50"].to_list(), WIDTH), "cyan"), (0, 0, 0, 2)))
    points = frames["change_points"].filter(own)
    blocks += _points(points)
    if row["cause_by"]:
        words = f"cause: {percent(row['mix'])} the mix of {_kind(row['cause_by'])}, {percent(row['own'])} within them"
        blocks.append(Padding(Text(words), (0, 0, 0, 2)))
    return blocks + _strata(frames["strata_points"].filter(own))


def _points(points: pl.DataFrame) -> list[RenderableType]:
    blocks: list[RenderableType] = [_point(point) for point in points.head(SHOWN_POINTS).to_dicts()]
    if (more := points.height - SHOWN_POINTS) > 0:
        blocks.append(Text(f"{more} more {'change' if more == 1 else 'changes'}", "dim"))
    return [Padding(block, (0, 0, 0, 2)) for block in blocks]


def _strata(points: pl.DataFrame) -> list[RenderableType]:
    """What drifts in a model, a tenant, or a tenant of a model alone."""
    blocks: list[RenderableType] = []
    for _, own in points.group_by("model", "tenant", maintain_order=True):
        first = own.row(0, named=True)
        about = f" ({percent(first['share'])} of requests, p = {first['p_value']:.2g})"
        said = Text("only in ").append(stratum(first), "bold").append(about, "dim")
        blocks += [Padding(said, (0, 0, 0, 2)), *(Padding(block, (0, 0, 0, 2)) for block in _points(own))]
    return blocks


def _tested(summary: pl.DataFrame) -> list[RenderableType]:
    """How many parts of the requests were tested too."""
    tested, left_out = summary.select(pl.col("strata_tested", "strata_left_out").max()).row(0)
    if not tested:
        return []
    rest = f"; {left_out} smaller ones were not" if left_out else ""
    return [Text(f"{tested} parts (a model, a tenant, a tenant of a model) were tested too{rest}", "dim")]


def stratum(row: Mapping[str, Any]) -> str:
    """A model, a tenant, or a tenant of a model, in words."""
    names = (f"{by} {printable(row[by])}" for by in ("model", "tenant") if row[by] is not None)
    return " of ".join(reversed(list(names)))


def _verdict(row: dict[str, Any]) -> Text:
    name = SHORT.get(row["column"], f"mix of {row['column']}s")
    if row["p_value"] is None:
        return Text(f"{name}: not tested, {row['note']}")
    in_part = row["verdict"] == "drift" and not row["change_points"]
    found = "drifts in a part" if in_part else "drifts" if row["verdict"] == "drift" else "no drift shown"
    p_value = row["strata_p_value"] if in_part else row["p_value"]
    daily = row["false_alarms_per_day"]
    alarms = f", {number(daily)} false alarms a day" if daily is not None and daily < 1 else ""
    note = f"; {row['note']}" if row["note"] else ""
    text = Text(f"{name}: ").append(found, "bold")
    return text.append(f" (p = {p_value:.2g}{alarms}{note})", "dim")


def _point(point: dict[str, Any]) -> Text:
    where = f"request {point['request_id']:,}"
    if point["time_s"] is not None:
        within = f"{seconds(point['time_low_s'])} to {seconds(point['time_high_s'])}"
        where = f"at {seconds(point['time_s'])} ({within}), {where}"
    if point["before"] is None:
        return Text(f"{where}: {percent(point['ks'])} of requests moved")
    return Text(f"{where}: median {number(point['before'])} → {number(point['after'])}, KS {point['ks']:.2f}")


def _estimates(frames: Frames) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("estimates of output")
    for name in ("bias", "MAE", "RMSE", "MAPE", "MAE calibrated"):
        table.add_column(name, justify="right", no_wrap=True)
    overall = frames["estimate"].filter(pl.col("by") == "all")
    for (name,), rows in overall.group_by("estimator", maintain_order=True):
        static, ema = (rows.filter(pl.col("calibration") == c).row(0, named=True) for c in ("static", "ema"))
        change = number(ema["mae"])
        if static["mae"]:
            change += f" ({100 * (ema['mae'] / static['mae'] - 1):+.0f} %)"
        shown = [number(static[c]) for c in ("bias", "mae", "rmse")]
        mape = "–" if static["mape"] is None else percent(static["mape"])
        table.add_row(str(name), *shown, mape, change)
    feedback = printable(frames["feedback"]["feedback"][0])
    return Group(table, Text(f"feedback when a request ends, {feedback}", "dim"))


def clients(frames: Frames) -> RenderableType | None:
    """The busiest clients and who made the bursts."""
    found = frames["clients"]
    if found.is_empty():
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(f"{number(found.height)} clients", max_width=28, no_wrap=True, overflow="ellipsis")
    for name in ("share", "rate/s", "gap CV", "gaps", "prompt p50", "output p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.head(SHOWN_CLIENTS).to_dicts():
        rate = [percent(row["share"]), number(row["rate_per_s"]), number(row["gap_cv"]), row["family"] or "–"]
        table.add_row(printable(row["tenant"]), *rate, number(row["prompt_p50"]), number(row["output_p50"]))
    return Group(table, Text(_bursts(frames)))


def _bursts(frames: Frames) -> str:
    bursts = frames["peaks"]
    if bursts.is_empty():
        return "no window is far above the mean rate"
    worst = bursts.sort("times_mean", descending=True).row(0, named=True)
    makers = frames["makers"].filter(pl.col("start_s") == worst["start_s"])
    when = f"at {seconds(worst['start_s'])} the rate was {worst['times_mean']:.1f} times the mean"
    first = makers.row(0, named=True)
    of_which = f"{printable(first['tenant'])} sent {percent(first['excess_share'])} of the excess"
    half = worst["clients_for_half"]
    return f"{when}: {of_which}; {half} {'client' if half == 1 else 'clients'} sent half"


def _kind(by: str) -> str:
    return {"prompt_tokens": "prompt lengths"}.get(by, f"{by}s")
