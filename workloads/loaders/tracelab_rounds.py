"""TraceLab's rounds of coding agents: one model call a line, timed by the events of its session log."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import InputFailure
from toolkit.protocols import LoadOptions, Scan
from workloads.fields import MOMENT, NAME, TEXT, TOKENS, Row, optional, shown
from workloads.outline import outline
from workloads.records import as_object, check, line_frame, need, need_list

FIELDS = {
    "session_id": NAME,
    "round_index": TOKENS,
    "model": TEXT,
    "project": optional(TEXT),
    "first_input_event_type": optional(TEXT),
    "input_tokens_total": TOKENS,
    "prefix_tokens": TOKENS,
    "output_tokens": TOKENS,
    "begins": MOMENT,
    "ends": MOMENT,
}
INPUTS = ("user_message", "tool_result")
OUTPUTS = ("reasoning", "text", "tool_call")
TIMES = (
    "a request arrives with the last input event of its round and finishes with the last output event; the log has "
    "finished blocks, not tokens, so there is no first-token time"
)
TENANTS = "tenant is the project"


class TraceLabRounds:
    """TraceLab round_trace.jsonl: a coding agent's model calls with prefix tokens and timed events, measured."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if {"session_id", "round_index", "timing_events", "output_tokens"} <= outline(head) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        return Scan(
            frame=_requests(line_frame(paths, FIELDS, _round)),
            time_unit="datetime",
            time_unit_reason="the format's times are ISO 8601",
            notes=(TIMES, TENANTS),
            engine="hosted API",
        )


def _requests(frame: pl.LazyFrame) -> pl.LazyFrame:
    turn = pl.col("round_index")
    gap = (pl.col("begins") - pl.col("ends").shift(1)).over("session_id", order_by="round_index")
    return frame.select(
        arrival="begins",
        model="model",
        tenant="project",
        kind="first_input_event_type",
        session_id="session_id",
        turn=turn,
        think_s=gap.dt.total_microseconds().clip(0) / 1e6,
        source_id=pl.format("{}#{}", "session_id", turn),
        parent_source_id=pl.when(turn > 0).then(pl.format("{}#{}", "session_id", turn - 1)),
        prompt_tokens="input_tokens_total",
        cached_tokens="prefix_tokens",
        output_tokens="output_tokens",
        finish="ends",
        drop_reason="drop_reason",
    )


def _round(record: Any, where: str) -> Iterator[Row]:
    events = [as_object(event, where) for event in need_list(record, "timing_events", where)]
    inputs = [_moment(event, where) for event in events if event.get("event_type") in INPUTS]
    outputs = [_moment(event, where) for event in events if event.get("event_type") in OUTPUTS]
    yield {**record, "begins": max(inputs, default=None), "ends": max(outputs, default=None)}


def _moment(event: dict[str, Any], where: str) -> datetime:
    stamp = need(event, "timestamp", where)
    try:
        moment = datetime.fromisoformat(stamp)
    except (TypeError, ValueError):
        raise InputFailure(f"'timestamp' is {shown(stamp)}, not an ISO 8601 time", where=where) from None
    if moment.tzinfo is None:
        raise InputFailure(f"'timestamp' is {shown(stamp)}, which names no time zone", where=where)
    return moment
