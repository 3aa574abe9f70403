"""guidellm's benchmarks report: every request of one or several benchmarks, by how it ended."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NAME, TEXT, TIME, TOKENS, Row
from workloads.outline import outline
from workloads.records import as_object, check, dig, document_frame, need, need_list

FIELDS = {
    "arrival": TIME,
    "sent": TIME,
    "first_token": TIME,
    "finish": TIME,
    "prompt_tokens": TOKENS,
    "output_tokens": TOKENS,
    "cached_tokens": TOKENS,
    "source_status": TEXT,
    "error": TEXT,
    "model": TEXT,
    "kind": TEXT,
    "session_id": NAME,
    "turn": TOKENS,
}
STATUSES = {"successful": "ok", "errored": "error", "incomplete": "unfinished"}
MARKS = {"benchmarks.type_", "benchmarks.config", "benchmarks.args", "benchmarks.scheduler_state"}
SWEEPS = "kind says which benchmark of the report a request belongs to, and its load strategy"
TIMING_PLACES = (("info", "timings"), ("scheduler_info", "request_timings"), ("scheduler_info", "timings"))


class GuideLLM:
    """guidellm benchmarks JSON: targeted start, sending, first token and end of each request, measured."""

    def sniff(self, head: bytes, name: str) -> float:
        keys = outline(head)
        if "metadata.guidellm_version" in keys:
            return 1.0
        return 0.9 if "benchmarks" in keys and keys & MARKS else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        return Scan(
            frame=document_frame(paths, FIELDS, _requests),
            time_unit="s",
            time_unit_reason="the format's times are seconds since 1970",
            notes=(SWEEPS,),
        )


def _requests(document: Any, where: str) -> Iterator[Row]:
    """The requests of every benchmark, grouped as the report groups them, by how they ended."""
    for number, benchmark in enumerate(need_list(document, "benchmarks", where), start=1):
        by_status = as_object(need(as_object(benchmark, where), "requests", where), where)
        common = {"model": _model(document, benchmark), "kind": f"benchmark {number}: {_strategy(benchmark)}"}
        for name, status in STATUSES.items():
            for request in by_status.get(name) or []:
                row = {**common, "source_status": status, **_times(as_object(request, where))}
                yield row if status == "ok" else {**row, "finish": None}  # it ended, but it did not finish


def _times(request: dict[str, Any]) -> Row:
    """The current layout keeps times under info.timings; earlier ones beside the request's numbers."""
    timings: Any = next((found for place in TIMING_PLACES if (found := dig(request, *place))), {})
    info = request.get("info") or request.get("scheduler_info") or {}
    sent = _first(timings.get("request_start"), request.get("request_start_time"), request.get("start_time"))
    first = _first(timings.get("first_token_iteration"), timings.get("first_iteration"))
    return {
        "arrival": _first(timings.get("targeted_start"), sent),
        "sent": sent,
        "first_token": _first(first, request.get("first_token_time")),
        "finish": _first(timings.get("request_end"), request.get("request_end_time"), request.get("end_time")),
        "prompt_tokens": request.get("prompt_tokens"),
        "output_tokens": request.get("output_tokens"),
        "cached_tokens": request.get("cached_tokens"),
        "error": _first(dig(info, "error"), request.get("error")),
        "session_id": dig(info, "conversation_id"),
        "turn": dig(info, "turn_index"),
    }


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _model(document: Any, benchmark: Any) -> Any:
    places = (("args", "model"), ("config", "backend", "model"), ("benchmarker", "backend", "model"))
    found = [dig(document, *places[0]), *(dig(benchmark, *place) for place in places)]
    return next((name for name in found if isinstance(name, str)), None)


def _strategy(benchmark: Any) -> str:
    places = (("config", "strategy"), ("scheduler", "strategy"), ("args", "strategy"))
    strategy: Any = next((found for place in places if (found := dig(benchmark, *place))), {})
    return str(dig(strategy, "type_") or "unknown")
