"""A trace to canonical Parquet, another tool's format or a run folder, and what was read as text or JSON."""

from pathlib import Path

import orjson
import polars as pl

from toolkit.errors import InputFailure, SettingFailure, printable
from toolkit.readable import number, seconds
from toolkit.runs import RunWriter
from toolkit.traces import FOOTER_KEY, Trace, TraceInfo, write_trace
from workloads.mooncake_writer import write_mooncake

ROWS_A_PART = 500_000
SUFFIXES = {None: ".parquet", "mooncake": ".jsonl"}


def check_target(target: Path, *, as_run: bool, kind: str | None = None) -> None:
    """Refuse, before anything is read, a target of another name or a file that this command did not write."""
    if as_run:
        return
    suffix = SUFFIXES[kind]
    if target.suffix != suffix:
        raise SettingFailure(f"a trace is written here, so the name must end in {suffix}", where=str(target))
    if target.exists() and (kind or not _is_ours(target)):
        hint = "move it away or choose another name"
        raise SettingFailure("is there already and was not written by trace convert", where=str(target), hint=hint)


def write(trace: Trace, target: Path, *, as_run: bool, kind: str | None = None) -> tuple[int, list[str]]:
    """Write `trace`; the bytes written, and what a reader must know of what was left out."""
    if as_run:
        write_run(trace, target)
        return sum(file.stat().st_size for file in target.rglob("*") if file.is_file()), []
    notes: list[str] = []
    if kind == "mooncake":
        notes = write_mooncake(trace, target)
    else:
        write_trace(trace, target)
    return target.stat().st_size, notes


def write_run(trace: Trace, folder: Path) -> None:
    """Write what the source measured as a finished run, so that it can be reported and queried like any other."""
    if trace.outcomes is None:
        hint = "leave out --run, or --speed and --scale-load"
        raise InputFailure("the source measured no latencies", where=trace.info.name, hint=hint)
    engine = trace.outcomes.select("engine").head(1).collect().item()
    facts = {"run_id": trace.info.name, "name": folder.resolve().name, "engine": {"name": engine}}
    writer = RunWriter.create(folder, {**facts, "trace": trace.info.to_dict(), "origin": "converted"})
    for batch in trace.outcomes.collect_batches(chunk_size=ROWS_A_PART, engine="streaming"):
        writer.append("outcomes", batch)
    writer.finish()


def to_json(info: TraceInfo, target: Path, written: int, notes: list[str]) -> str:
    facts = {"trace": info.to_dict(), "out": str(target), "bytes": written, "notes": notes}
    return orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode()


def statement(info: TraceInfo) -> str:
    """What was read, for people: rows by fate, span and rate, unit and why, clock, order, repeats, notes."""
    lines = {
        "source": f"{info.name} ({info.format})",
        "rows": _rows(info),
        "time": _span(info),
        "unit": f"{info.time_unit} ({info.time_unit_reason})" if info.time_unit else f"none: {info.time_unit_reason}",
        "clock": _clock(info),
        "order": "" if info.span_s is None else "by arrival" if info.sorted else "not by arrival; sorted",
        "repeats": _repeats(info),
        "lengths": f"in {info.token_unit}, not tokens" if info.token_unit != "tokens" else "",
    }
    said = [f"{word:<8} {printable(text)}" for word, text in lines.items() if text]
    return "\n".join([*said, *(f"note     {printable(note)}" for note in info.notes)])


def _rows(info: TraceInfo) -> str:
    dropped = "".join(f" + {rows:,} dropped ({reason})" for reason, rows in info.dropped.items())
    return f"{info.rows_read:,} read = {info.rows_kept:,} kept{dropped}"


def _span(info: TraceInfo) -> str:
    if info.span_s is None:
        return "no arrivals"
    rate = f", {number(info.rows_kept / info.span_s)} requests/s" if info.span_s else ""
    return f"{seconds(info.span_s)}{rate}" + (f", from {info.epoch}" if info.epoch else "")


def _clock(info: TraceInfo) -> str:
    if info.span_s is None:
        return ""
    return f"steps of {seconds(info.clock_step_s)}" if info.clock_step_s else "no step shows"


def _repeats(info: TraceInfo) -> str:
    if info.duplicates is None:
        return "not counted"
    return f"{info.duplicates:,} rows equal an earlier one; kept" if info.duplicates else "none"


def _is_ours(path: Path) -> bool:
    try:
        return FOOTER_KEY in pl.read_parquet_metadata(path)
    except (pl.exceptions.PolarsError, OSError):
        return False
