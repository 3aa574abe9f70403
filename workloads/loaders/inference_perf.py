"""inference-perf's per_request_lifecycle_metrics.json: every request of a run, in one list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from toolkit.errors import InputFailure
from toolkit.protocols import LoadOptions, Scan
from workloads.fields import TEXT, TIME, TOKEN_TIMES, TOKENS, Row, shown
from workloads.outline import outline
from workloads.records import as_object, check, dig, document_frame, need

FIELDS = {
    "start_time": TIME,
    "end_time": TIME,
    "first_token": TIME,
    "token_s": TOKEN_TIMES,
    "prompt_tokens": TOKENS,
    "output_tokens": TOKENS,
    "cached_tokens": TOKENS,
    "source_status": TEXT,
    "error": TEXT,
    "model": TEXT,
    "adapter": TEXT,
}
OF_A_REQUEST = {"start_time", "end_time"}
MARKS = {"request", "info.request_metrics", "info.response_metrics", "info.output_token_times"}
SENT = "arrival is the time of sending: when a request was to be sent is not in the file"
COUNTS = "tokens are the server's count where it reported usage, else inference-perf's own"


class InferencePerf:
    """inference-perf per_request_lifecycle_metrics.json: start, tokens' times and end of each request, measured."""

    def sniff(self, head: bytes, name: str) -> float:
        keys = outline(head.lstrip().removeprefix(b"["))
        return 0.9 if keys >= OF_A_REQUEST and keys & MARKS else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        named = document_frame(paths, FIELDS, _requests).rename({"start_time": "arrival", "end_time": "finish"})
        return Scan(
            frame=named.with_columns(sent="arrival"),
            time_unit="s",
            time_unit_reason="the format's times are seconds",
            notes=(SENT, COUNTS),
        )


def _requests(document: Any, where: str) -> Iterator[Row]:
    if not isinstance(document, list):
        raise InputFailure(f"{shown(document)} stands where a list of requests belongs", where=where)
    return (_request(as_object(record, where), f"{where}, item {n}") for n, record in enumerate(document, start=1))


def _request(record: dict[str, Any], where: str) -> Row:
    """The current layout keeps what came back under info.response_metrics; before 0.5 info had it itself."""
    info, error, start = record.get("info"), record.get("error"), need(record, "start_time", where)
    answer = dig(info, "response_metrics") or info
    usage = dig(answer, "server_usage")
    output = _first(dig(usage, "completion_tokens"), dig(answer, "output_tokens"))
    times = dig(answer, "output_token_times") or dig(answer, "chunk_times") or [None]
    counted = dig(info, "request_metrics", "text", "input_tokens")
    return {
        "start_time": start,
        "end_time": None if error else need(record, "end_time", where),  # it ended, but it did not finish
        "first_token": times[0] if isinstance(times, list) else times,
        "token_s": _since(start, dig(answer, "chunk_times") or times, output, where),
        "prompt_tokens": _first(dig(usage, "prompt_tokens"), counted, dig(info, "input_tokens")),
        "output_tokens": output,
        "cached_tokens": dig(usage, "prompt_tokens_details", "cached_tokens"),
        "source_status": _status(error),
        "error": ": ".join(str(part) for part in (dig(error, "error_type"), dig(error, "error_msg")) if part) or None,
        "model": _model(record.get("request")),
        "adapter": dig(info, "lora_adapter"),
    }


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _since(start: Any, times: Any, tokens: Any, where: str) -> list[float] | None:
    """Times of the tokens after the sending, where every token came in a chunk of its own."""
    if not isinstance(times, list) or len(times) != tokens:
        return None
    try:
        return [time - start for time in times]
    except TypeError:
        raise InputFailure("'start_time' or a token's time is no number", where=where) from None


def _status(error: Any) -> str:
    if not error:
        return "ok"
    return "timeout" if "timeout" in str(dig(error, "error_type")).lower() else "error"


def _model(request: Any) -> Any:
    """What the body that was sent asked for; it is left out of the file where the user said so."""
    try:
        return dig(orjson.loads(request), "model")
    except (orjson.JSONDecodeError, TypeError):
        return None
