"""Drift and clients for a terminal."""

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
    blocks += [Padding(_point(point), (0, 0, 0, 2)) for point in points.head(SHOWN_POINTS).to_dicts()]
    if points.height > SHOWN_POINTS:
        blocks.append(Padding(Text(f"{points.height - SHOWN_POINTS} more changes", "dim"), (0, 0, 0, 2)))
    if row["cause_by"]:
        words = f"cause: {percent(row['mix'])} the mix of {_kind(row['cause_by'])}, {percent(row['own'])} within them"
        blocks.append(Padding(Text(words), (0, 0, 0, 2)))
    return blocks


def _verdict(row: dict[str, Any]) -> Text:
    name = SHORT.get(row["column"], f"mix of {row['column']}s")
    if row["p_value"] is None:
        return Text(f"{name}: not tested, {row['note']}")
    found = "drifts" if row["verdict"] == "drift" else "no drift shown"
    daily = row["false_alarms_per_day"]
    alarms = f", {number(daily)} false alarms a day" if daily is not None and daily < 1 else ""
    note = f"; {row['note']}" if row["note"] else ""
    text = Text(f"{name}: ").append(found, "bold")
    return text.append(f" (p = {row['p_value']:.2g}{alarms}{note})", "dim")


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
        change = (
            f"{number(ema['mae'])} ({ema['mae'] / static['mae'] - 1:+.0%})" if static["mae"] else number(ema["mae"])
        )
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
    return f"{when}: {of_which}; {worst['clients_for_half']} clients sent half"


def _kind(by: str) -> str:
    return {"prompt_tokens": "prompt lengths"}.get(by, f"{by}s")
