"""A trace's analyses for a terminal: a compact block a question, readable at 80 columns, plain where it is piped."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from toolkit import drift_summary, groups_summary
from toolkit.analyses import Tables
from toolkit.errors import printable
from toolkit.readable import UNKNOWN, number, percent, seconds, spark
from toolkit.traces import TraceInfo

Frames = dict[str, pl.DataFrame]
Row = dict[str, Any]
SHOWN_NAMES = 5
SPARK_WIDTH = 56
NAME_WIDTH = 28


def show(tables: Tables, info: TraceInfo, console: Console | None = None) -> None:
    """Print what was read, then every question that the trace answers."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these characters still gets the numbers
    console = console or Console(highlight=False)
    with console.capture() as captured:
        _print(console, tables, info)
    text = captured.get()
    # Rich pads lines to the width of the terminal; in a file that is only noise.
    console.file.write(text if console.is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines()))


def _print(console: Console, tables: Tables, info: TraceInfo) -> None:
    console.print(heading(info, tables["arrivals"]))
    blocks = BLOCKS | {"lengths": partial(lengths, unit=info.token_unit)}
    for name, frames in tables.items():
        block = blocks.get(name, other)(frames)
        if block is not None:
            console.print(Rule(Text(name, "bold"), align="left", style="dim"))
            console.print(Padding(block, (0, 0, 0, 2)))


def heading(info: TraceInfo, arrivals: Frames) -> RenderableType:
    """Where the rows came from and what became of them."""
    lines = _pairs()
    dropped = ", ".join(f"{number(count)} {reason}" for reason, count in info.dropped.items())
    kept = f"{number(info.rows_kept)} kept + {number(sum(info.dropped.values()))} dropped"
    lines.add_row("rows", printable(f"{number(info.rows_read)} read = {kept}" + (f" ({dropped})" if dropped else "")))
    lines.add_row("time", _time(info, arrivals))
    lines.add_row("clock", _clock(info))
    if info.duplicates:
        lines.add_row("repeats", f"{number(info.duplicates)}, each equal to an earlier row in every column; kept")
    if info.token_unit != "tokens":
        lines.add_row("lengths", printable(f"are in {info.token_unit}, not in tokens"))
    for note in info.notes:
        lines.add_row("note", printable(note))
    return Group(Text(printable(f"{info.name} · {info.format}"), "bold cyan"), Padding(lines, (0, 0, 0, 2)))


def _time(info: TraceInfo, arrivals: Frames) -> str:
    unit = printable(f"unit {info.time_unit or UNKNOWN}: {info.time_unit_reason or 'unknown'}")
    row = _row(arrivals["summary"])
    if row is None:
        return f"no arrival times; {unit}"
    rate = f", {number(row['rate_per_s'])} requests/s" if row["rate_per_s"] is not None else ""
    since = f" from {printable(info.epoch)}" if info.epoch else ""
    return f"{seconds(row['span_s'])}{since}{rate}; {unit}"


def _clock(info: TraceInfo) -> str:
    step = f"step {seconds(info.clock_step_s)}" if info.clock_step_s else "no step found"
    return f"{step}; source {'in' if info.sorted else 'not in'} arrival order"


def arrivals(frames: Frames) -> RenderableType | None:
    """Rate as a chart, gaps, dispersion, fits."""
    row = _row(frames["summary"])
    if row is None or row["rate_per_s"] is None:
        return None
    lines, rates = _pairs(), frames["rate"]
    lines.add_row("rate", Text(spark(rates["rate_per_s"].to_list(), SPARK_WIDTH), "cyan"))
    lines.add_row("", Text(f"0 to {number(_top(rates))}/s, by {seconds(rates['window_s'][0])}", "dim"))
    points = " · ".join(f"{name} {seconds(row[f'gap_{name}_s'])}" for name in ("mean", "p50", "p99", "max"))
    zero = f" · {percent(row['zero_gap_share'])} are 0" if row["zero_gap_share"] else ""
    lines.add_row("gaps", points + zero)
    if row["gap_cv"] is not None:
        lines.add_row("gap CV", f"{number(row['gap_cv'])} (Poisson: 1)")
    for fit in frames["gap_fits"].to_dicts():
        lines.add_row("fit", _fit_words(fit, seconds))
    if row["note"]:
        lines.add_row("note", row["note"])
    return Group(lines, _dispersion(frames["dispersion"])) if frames["dispersion"].height else lines


def _dispersion(table: pl.DataFrame) -> RenderableType:
    """Variance ÷ mean of counts by window; a star marks what a Poisson trace would show too."""
    windows = _numbers("counts in windows of", [seconds(w) for w in table["window_s"]])
    marks = ["*" if row["poisson_low"] <= row["index"] <= row["poisson_high"] else "" for row in table.to_dicts()]
    indices = [number(index) + mark for index, mark in zip(table["index"], marks, strict=True)]
    windows.add_row("variance ÷ mean", *indices)
    words = "as of a Poisson trace, within 95 %" if any(marks) else "Poisson: 1"
    return Group(windows, Text(f"* {words}" if any(marks) else words, "dim"))


def lengths(frames: Frames, unit: str = "tokens") -> RenderableType | None:
    """Quantiles of both lengths, how many are unknown or 0, the best fit of each, their correlation."""
    if not frames["summary"].height:
        return None
    names = ("mean", "p50", "p90", "p95", "p99", "max")
    table = _numbers(printable(unit), list(names))
    for row in frames["summary"].to_dicts():
        table.add_row(_kind(row["column"]), *[number(row[name]) for name in names])
    lines = _pairs()
    for name, column in (("unknown", "missing"), ("zero", "zeros")):
        for row in frames["summary"].filter(pl.col(column) > 0).to_dicts():
            share = percent(row[column] / (row["missing"] + row["requests"]))
            lines.add_row(name, f"{_kind(row['column'])} of {number(row[column])}, {share} of requests")
    for (column,), fits in frames["fits"].filter(pl.col("delta_aic") == 0).group_by("column", maintain_order=True):
        lines.add_row("best fit", f"{_kind(str(column))} {_fit_words(fits.row(0, named=True), number)}")
    values = {row["method"]: row["value"] for row in frames["correlation"].to_dicts()}
    if values:
        words = " · ".join(f"{method.capitalize()} {value:+.2f}" for method, value in values.items())
        lines.add_row("correlation", f"of prompt and output: {words}")
    return Group(table, lines)


def popularity(frames: Frames) -> RenderableType | None:
    """The largest shares of models and tenants."""
    blocks = [_top_names(frames, column) for column in ("model", "tenant")]
    present = [block for block in blocks if block is not None]
    return Group(*present) if present else None


def _top_names(frames: Frames, column: str) -> RenderableType | None:
    table = frames[f"{column}s"]
    if not table.height:
        return None
    count = table[column].count()
    title = f"{number(count)} {column}{'s' if count != 1 else ''}"
    zipf = _row(frames["zipf"].filter(pl.col("column") == column))
    if zipf:
        title += f", share ∝ rank^−{zipf['exponent']:.2f} (KS {zipf['ks']:.3f})"
    shares = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    shares.add_column(max_width=NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    shares.add_column(justify="right")
    shares.add_column(justify="right")
    shares.add_column(style="cyan")
    for row in table.head(SHOWN_NAMES).to_dicts():
        bar = "█" * round(24 * row["share"]) or "▏"
        name = Text("(none)", "dim") if row[column] is None else Text(printable(row[column]))
        shares.add_row(name, number(row["requests"]), percent(row["share"]), bar)
    rest = table.slice(SHOWN_NAMES)
    if rest.height:
        requests, share = (float(rest[name].sum()) for name in ("requests", "share"))
        shares.add_row(Text(f"{number(rest.height)} more", "dim"), number(requests), percent(share), "")
    return Group(Text(title), Padding(shares, (0, 0, 0, 2)))


def idle(frames: Frames) -> RenderableType | None:
    """Concurrency over time and how often models pause."""
    row = _row(frames["summary"])
    if row is None:
        return None
    lines, level = _pairs(), frames["concurrency"]
    if row["basis"]:
        lines.add_row(row["basis"], Text(spark(level["mean"].to_list(), 40), "cyan"))
        lines.add_row("", f"mean {number(row['mean'])} · p50 {number(row['p50'])} · max {number(row['max'])}")
    where = "between a model's requests" if row["models"] > 1 else "between requests"
    pauses = f"{number(row['idle_intervals'])} gaps above 10 s {where}"
    each = f"; per model and hour: median {number(row['idle_per_h_p50'])}, at most {number(row['idle_per_h_max'])}"
    lines.add_row("idle", pauses + (each if row["models"] > 1 else f", {number(row['idle_per_h_p50'])} an hour"))
    return lines


def prefixes(frames: Frames) -> RenderableType | None:
    """Hit ratios of an infinite cache and of LRU at a few sizes."""
    row = _row(frames["summary"])
    if row is None:
        return None
    lines = _pairs()
    seen = f"{number(row['block_hits'])} of {number(row['blocks'])} blocks occurred before"
    lines.add_row("infinite cache", f"{percent(row['block_hit_ratio'])}: {seen}")
    unbroken = f"{percent(row['prefix_hit_ratio'])} of blocks in an unbroken run from the start"
    tokens = f", {percent(row['prefix_token_hit_ratio'])} of tokens" if row["tokens"] is not None else ""
    lines.add_row("as a prefix", unbroken + tokens)
    return Group(lines, _cache(frames["cache"]))


def _cache(table: pl.DataFrame) -> RenderableType:
    largest, sizes = int(table["cache_blocks"].max()), table["cache_blocks"]  # type: ignore[arg-type]
    chosen = table[sorted({int((sizes >= largest * part).arg_max() or 0) for part in (0.001, 0.01, 0.03, 0.1, 0.3, 1)})]
    shown = _numbers("LRU cache of", [f"{number(blocks)}" for blocks in chosen["cache_blocks"]])
    shown.add_row("blocks: hit ratio", *[percent(ratio) for ratio in chosen["block_hit_ratio"]])
    return shown


def sessions(frames: Frames) -> RenderableType | None:
    """Turns, think times, growth of the prompt."""
    row = _row(frames["summary"])
    if row is None:
        return None
    lines = _pairs()
    turns = f"turns mean {number(row['turns_mean'])} · p50 {number(row['turns_p50'])} · p99 {number(row['turns_p99'])}"
    lines.add_row("sessions", f"{number(row['sessions'])}; {turns} · max {number(row['max_turns'])}")
    lines.add_row("single turn", percent(row["single_turn_share"]))
    if row["think_source"]:
        points = " · ".join(f"{name} {seconds(row[f'think_{name}_s'])}" for name in ("p50", "p90", "p99"))
        lines.add_row("think time", f"{points} ({row['think_source']})")
    later = frames["growth"].filter(pl.col("added_p50").is_not_null())
    if later.height:
        lines.add_row("growth", f"the second turn adds {number(later['added_p50'][0])} prompt tokens (median)")
    return lines


def latencies(frames: Frames) -> RenderableType | None:
    """What the source measured."""
    if not frames["status"].height:
        return None
    names = ("mean", "p50", "p90", "p95", "p99", "max")
    table = _numbers("measured by the source", list(names))
    for row in frames["quantiles"].to_dicts():
        table.add_row(row["metric"].removesuffix("_s").replace("_", " "), *[seconds(row[name]) for name in names])
    ended = " · ".join(f"{printable(s)} {number(n)}" for s, n, _ in frames["status"].iter_rows())
    return Group(table, Text(f"requests: {ended}"))


def other(frames: Frames) -> RenderableType | None:
    """An analysis that this page does not know: what it found is in its tables."""
    return Text(" · ".join(f"{printable(name)}: {number(frame.height)} rows" for name, frame in frames.items()))


BLOCKS: dict[str, Callable[[Frames], RenderableType | None]] = {
    "arrivals": arrivals,
    "lengths": lengths,
    "popularity": popularity,
    "idle": idle,
    "prefixes": prefixes,
    "sessions": sessions,
    "latencies": latencies,
    "groups": groups_summary.groups,
    "drift": drift_summary.drift,
    "clients": drift_summary.clients,
}


def _fit_words(fit: Row, unit: Callable[[float | None], str]) -> str:
    shape = f"shape {number(fit['shape'])}, " if fit["shape"] is not None else ""
    behind = f", AIC +{number(fit['delta_aic'])}" if fit["delta_aic"] else ""
    return f"{fit['family']} ({shape}scale {unit(fit['scale'])}), KS {fit['ks']:.3f}{behind}"


def _pairs() -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _numbers(first: str, columns: Iterable[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _kind(column: str) -> str:
    return column.removesuffix("_tokens")


def _top(rates: pl.DataFrame) -> float:
    return float(rates["rate_per_s"].max())  # type: ignore[arg-type]


def _row(table: pl.DataFrame) -> Row | None:
    return table.row(0, named=True) if table.height else None
