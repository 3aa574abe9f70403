"""The page of `trace analyze --out`: what was read, and a section for every analysis, its question first."""

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports import burst_charts, words
from reports.measured import clipped
from reports.page import bundle_soon, csv, packed
from reports.page import render as render_page
from reports.time_figures import name_of
from reports.trace_charts import Tables, charts, first, table
from reports.words import UNKNOWN, duration, number, percent, whole
from toolkit import __version__
from toolkit.errors import printable
from toolkit.traces import TraceInfo

QUESTIONS = {
    "arrivals": "When do requests come?",
    "lengths": "How long are prompts and outputs?",
    "popularity": "Who sends, and to which model?",
    "idle": "Which models stand still, and how much is in flight?",
    "prefixes": "How much of the prompts is repeated?",
    "sessions": "How do conversations go on?",
    "latencies": "What did the source measure?",
    "drift": "Do token lengths drift, and why?",
    "clients": "Who sends, and who makes the bursts?",
    "groups": "Who bursts together?",
}
DRAWN = {
    *("rate", "histogram", "concurrency", "dispersion", "turns", "growth", "think", "recency", "reuse", "cache"),
    *("windows", "factors", "pairs", "activity", "bursts", "active"),
}
ROWS = 20
SHORT = ("aic", "cv", "ks", "mae", "mape", "psi", "rmse")  # what is written in capitals
SHARES = ("share", "ratio")


@dataclass(frozen=True)
class Table:
    """A table as text, its first ROWS rows; the rest is in the data."""

    name: str  # unique in the page
    title: str
    columns: list[str]  # none for a single row, which is turned on its side
    text: list[bool]  # a column: whether it is text
    rows: list[list[str]]
    hidden: int
    csv: str


def render(tables: dict[str, dict[str, pl.DataFrame]], info: TraceInfo) -> str:
    """The page of one analysed trace."""
    bundle = bundle_soon()
    sections = [s for name in tables if (s := _section(tables, name))]
    values = {
        "title": f"Trace: {clipped(info.name, 80)}",
        "name": clipped(info.name, 80),
        "answer": answer(tables, info),
        "detail": detail(tables, info),
        "info": info,
        "facts": facts(info),
        "dropped": [(printable(k), whole(n)) for k, n in info.dropped.items()],
        "notes": [printable(n) for n in info.notes],
        "sections": sections,
        "version": __version__,
    }
    return render_page("trace.html", bundle, values)


def answer(tables: Tables, info: TraceInfo) -> str:
    """What is in the traffic, in one sentence."""
    span = f" over {duration(info.span_s)}" if info.span_s else ""
    rate = first(tables, "arrivals").get("rate_per_s")
    often = f", {number(rate)} a second" if rate else ""
    named = table(tables, "popularity", "models")
    models = named["model"].count() if named.height else 0
    to = f", to {whole(models)} models" if models > 1 else ""
    requests = f"{whole(info.rows_kept)} request{'s' if info.rows_kept != 1 else ''}"
    return f"{requests}{span}{often}{to}{_burst(tables)}."


def _burst(tables: Tables) -> str:
    found = table(tables, "arrivals", "dispersion")
    if found.is_empty():
        return ""
    last = found.sort("window_s").row(-1, named=True)
    if last["index"] <= last["poisson_high"]:
        return ", no burstier than Poisson"
    return f", {number(last['index'])} times as bursty as Poisson over {duration(last['window_s'])}"


def detail(tables: Tables, info: TraceInfo) -> str:
    """The three facts that sizing needs: lengths, reuse, sessions."""
    unit = printable(info.token_unit)
    said = [
        f"{row['column'].removesuffix('_tokens')} {unit} P50 {whole(row['p50'])} and P99 {whole(row['p99'])}"
        for row in table(tables, "lengths", "summary").iter_rows(named=True)
        if row["p50"] is not None
    ]
    hits = first(tables, "prefixes").get("block_hit_ratio")
    if hits is not None:
        said.append(f"{percent(hits)} of prefix blocks were seen before")
    sessions = first(tables, "sessions").get("sessions")
    if sessions:
        said.append(f"{whole(sessions)} sessions of up to {whole(first(tables, 'sessions').get('max_turns'))} turns")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def facts(info: TraceInfo) -> list[tuple[str, str]]:
    """How the trace was read."""
    read = f"{whole(info.rows_read)} read = {whole(info.rows_kept)} kept + {whole(sum(info.dropped.values()))} dropped"
    unit = f"{info.time_unit}: {printable(info.time_unit_reason or 'reason unknown')}" if info.time_unit else UNKNOWN
    blocks = f"{info.block_tokens} tokens, {info.block_scope or 'scope unknown'}" if info.block_tokens else UNKNOWN
    return [
        ("format", printable(info.format)),
        ("rows", read),
        ("span", duration(info.span_s)),
        ("time unit", unit),
        ("clock step", UNKNOWN if info.clock_step_s is None else f"{number(info.clock_step_s)} s"),
        ("in arrival order", "yes" if info.sorted else "no; it was sorted"),
        ("duplicate rows, kept", "not counted" if info.duplicates is None else whole(info.duplicates)),
        ("starts at", printable(info.epoch or UNKNOWN)),
        ("prefix block", blocks),
        ("token unit", printable(info.token_unit)),
        ("SHA-256", info.sha256),
    ]


def _section(tables: Tables, name: str) -> dict[str, Any] | None:
    """One analysis; none where no table of it has a row."""
    if not any(t.height for t in tables[name].values()):
        return None
    shown = [(k, t) for k, t in tables[name].items() if t.height and k not in DRAWN | {"note"}]
    return {
        "name": clipped(name),
        "question": QUESTIONS.get(name, clipped(name)),
        "known": name in QUESTIONS,
        "charts": charts(tables, name),
        "tables": [as_text(f"{i}-{k}", k, t) for i, (k, t) in enumerate(shown)],
        "note": _said(tables, name),
    }


def _said(tables: Tables, name: str) -> str:
    """What stands under a section's question: the analysis' own note, and for groups the verdict before it."""
    about = first(tables, name)
    note = _sentence(str(about.get("note") or ""))
    if name != "groups" or about.get("window_s") is None:
        return note
    return f"{burst_charts.verdict(about)} {note}".strip()


def _sentence(note: str) -> str:
    said = printable(note)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def as_text(name: str, title: str, found: pl.DataFrame) -> Table:
    """A table ready to be placed; a single row is turned on its side."""
    data = packed(csv(_flat(found)))
    columns, text = [heading(c) for c in found.columns], [t == pl.String for t in found.dtypes]
    head = found.head(ROWS).iter_rows()
    rows = [[_cell(c, v) for c, v in zip(found.columns, row, strict=True)] for row in head]
    if found.height == 1:
        kept = [(c, v) for c, v in zip(columns, rows[0], strict=True) if c != "note"]
        columns, text, rows = [], [True, False], [list(pair) for pair in kept]
    return Table(name, title.replace("_", " "), columns, text, rows, max(0, found.height - ROWS), data)


def heading(column: str) -> str:
    """A column's name as people write it, a time with its unit."""
    parts = re.sub(r"(?<!_per)_s$", "_(s)", column).split("_")
    return " ".join(part.upper() if part in SHORT or re.fullmatch(r"p\d+", part) else part for part in parts)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return name_of(None) if column in ("model", "tenant") else words.DASH
    if isinstance(value, bool | list):
        return clipped(str(value), 80)
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, float):
        return percent(value) if column.endswith(SHARES) and 0 <= value <= 1 else number(value)
    return clipped(str(value), 80)


def _flat(found: pl.DataFrame) -> pl.DataFrame:
    """`found` with lists as text, which CSV cannot hold otherwise."""
    nested = [c for c, t in found.schema.items() if t.is_nested()]
    return found.with_columns(pl.Series(c, [str(v) for v in found[c].to_list()], dtype=pl.String) for c in nested)
