"""AIBrix's replay workloads: several requests at one moment share a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NAME, TEXT, TIME, TOKENS, Row, optional
from workloads.outline import outline
from workloads.records import as_object, check, line_frame, need, need_list

FIELDS = {
    "timestamp": TIME,
    "Prompt Length": TOKENS,
    "Output Length": TOKENS,
    "prompt": optional(TEXT),
    "model": optional(NAME),
    "session_id": optional(NAME),
}
OTHER_SPELLINGS = {"prompt_length": "Prompt Length", "output_length": "Output Length"}


class AIBrix:
    """AIBrix workload JSONL: timestamp in ms and a list of requests a line, with prompt texts."""

    def sniff(self, head: bytes, name: str) -> float:
        keys = outline(head)
        sized = keys & {"requests.Prompt Length", "requests.prompt_length"}
        return 1.0 if {"timestamp", "requests"} <= keys and (sized or "requests.prompt" in keys) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        frame = line_frame(paths, FIELDS, _requests).select(
            arrival="timestamp",
            prompt_tokens="Prompt Length",
            output_tokens="Output Length",
            prompt="prompt",
            model="model",
            session_id="session_id",
            drop_reason="drop_reason",
        )
        return Scan(
            frame=frame,
            time_unit="ms",
            time_unit_reason="the format's timestamps are milliseconds",
        )


def _requests(record: Any, where: str) -> Iterator[Row]:
    moment = need(record, "timestamp", where)
    for request in need_list(record, "requests", where):
        sizes = {OTHER_SPELLINGS.get(key, key): value for key, value in as_object(request, where).items()}
        yield {**sizes, "timestamp": moment}
