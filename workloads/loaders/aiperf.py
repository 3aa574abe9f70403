"""NVIDIA aiperf's profile_export.jsonl: one measured request a line."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import InputFailure, nearest
from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NAME, NUMBER, TEXT, TOKEN_TIMES, TOKENS, WHOLE, Row, optional, shown
from workloads.outline import outline
from workloads.records import as_object, check, dig, line_frame, need

FIELDS = {
    "request_start_ns": WHOLE,
    "request_end_ns": optional(WHOLE),
    "credit_issued_ns": optional(WHOLE),
    "x_correlation_id": optional(NAME),
    "turn_index": optional(TOKENS),
    "benchmark_phase": optional(TEXT),
    "status": TEXT,
    "error": TEXT,
    "input_tokens": TOKENS,
    "output_tokens": TOKENS,
    "ttft_s": NUMBER,
    "token_s": TOKEN_TIMES,
}
PER_UNIT_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
MEASURED_PHASE = "profiling"
ARRIVAL = "arrival is the moment at which aiperf issued the request's credit, or sent it where no credit is recorded"


class AIPerf:
    """aiperf profile_export.jsonl: start, first token and end of each request in ns, with its metrics, measured."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if {"metadata.request_start_ns", "metrics"} <= outline(head) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        return Scan(
            frame=_requests(line_frame(paths, FIELDS, _request)),
            time_unit="ns",
            time_unit_reason="the format's times are nanoseconds",
            notes=(ARRIVAL,),
        )


def _requests(frame: pl.LazyFrame) -> pl.LazyFrame:
    start, turn = pl.col("request_start_ns"), pl.col("turn_index")
    arrival = pl.coalesce("credit_issued_ns", start)
    warm_up = pl.col("benchmark_phase") != MEASURED_PHASE
    return frame.select(
        arrival=arrival,
        sent=start,
        first_token=start + (pl.col("ttft_s") * 1e9).round().cast(pl.Int64),
        finish=pl.when(pl.col("status") == "ok").then("request_end_ns"),
        session_id="x_correlation_id",
        turn="turn_index",
        source_id=pl.format("{}#{}", "x_correlation_id", turn),
        parent_source_id=pl.when(turn > 0).then(pl.format("{}#{}", "x_correlation_id", turn - 1)),
        prompt_tokens="input_tokens",
        output_tokens="output_tokens",
        token_s=pl.col("token_s") + ((start - arrival) / 1e9).cast(pl.Float32),
        source_status="status",
        error="error",
        drop_reason=pl.coalesce("drop_reason", pl.when(warm_up).then(pl.lit("not in the profiling phase"))),
    )


def _request(record: Any, where: str) -> Iterator[Row]:
    about = as_object(need(record, "metadata", where), where)
    metrics, error = record.get("metrics") or {}, record.get("error")
    yield {
        **about,
        "status": _status(about, error),
        "error": ": ".join(str(part) for part in (dig(error, "type"), dig(error, "message")) if part) or None,
        "input_tokens": dig(metrics, "input_sequence_length", "value") or dig(metrics, "error_isl", "value"),
        "output_tokens": dig(metrics, "output_sequence_length", "value"),
        "ttft_s": _seconds(metrics, "time_to_first_token", where),
        "token_s": _token_times(metrics, where),
    }


def _status(about: dict[str, Any], error: Any) -> str:
    if about.get("was_cancelled"):
        return "cancelled"
    if not error:
        return "ok"
    return "timeout" if "timeout" in str(dig(error, "type")).lower() else "error"


def _seconds(metrics: Any, name: str, where: str) -> float | None:
    value = dig(metrics, name, "value")
    if value is None:
        return None
    return _number(value, name, where) * _unit_s(metrics, name, where)


def _token_times(metrics: Any, where: str) -> list[float] | None:
    """Times of the tokens after the sending, where every token came in a chunk of its own."""
    first, gaps = _seconds(metrics, "time_to_first_token", where), dig(metrics, "inter_chunk_latency", "value")
    if first is None or not isinstance(gaps, list):
        return None
    if len(gaps) + 1 != dig(metrics, "output_sequence_length", "value"):
        return None
    unit_s = _unit_s(metrics, "inter_chunk_latency", where)
    return list(accumulate([first, *(_number(gap, "inter_chunk_latency", where) * unit_s for gap in gaps)]))


def _number(value: Any, name: str, where: str) -> float:
    if type(value) not in (int, float):  # true is an int to Python
        raise InputFailure(f"'{name}' is {shown(value)}, not a number", where=where)
    return float(value)


def _unit_s(metrics: Any, name: str, where: str) -> float:
    unit = dig(metrics, name, "unit")
    if not isinstance(unit, str) or unit not in PER_UNIT_S:
        raise InputFailure(f"'{name}' has the unit {shown(unit)}", where=where, hint=nearest(str(unit), PER_UNIT_S))
    return PER_UNIT_S[unit]
