"""What the server says of itself while it is measured: its `/metrics`, once a second, as TIMELINE rows."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from replay.http import asking
from replay.http.endpoint import Endpoint
from replay.http.pool import Dial

EVERY_S = 1.0
LINE = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')
MOST_FAILURES = 3  # at first, after which an endpoint is left alone

# Our column: the names that vLLM, SGLang and llama.cpp have for it.
NAMES = {
    "queue": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred"),
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing"),
    "kv_share": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage",
                 "llamacpp:kv_cache_usage_ratio"),
}  # fmt: skip
BLOCKS = (b"vllm:cache_config_info", b"num_gpu_blocks")
TOKENS = b"sglang:max_total_num_tokens"  # SGLang has tokens where vLLM has blocks
MOST = 2**31 - 1  # that a gauge is believed to say


def rows(page: bytes, time_s: float, where: str) -> list[dict[str, Any]]:
    """A TIMELINE row for each model that the page tells of, all its engines together; none where it has none."""
    found: dict[str | None, dict[str, list[float]]] = {}
    blocks: list[float] = []
    for name, labels, value in LINE.findall(page):
        told = dict(LABEL.findall(labels))
        if told.get(b"priority"):
            continue  # SGLang says each priority's number beside that of all
        size = {BLOCKS[0]: told.get(BLOCKS[1], b""), TOKENS: value}.get(name)
        if size is not None and (number := _number(size)) is not None:
            blocks.append(number)
        for column, names in NAMES.items():
            if name.decode() in names and (number := _number(value)) is not None:
                of_model = found.setdefault(_name(told.get(b"model_name")), {})
                of_model.setdefault(column, []).append(number)
    return [_row(model, values, blocks) | {"time_s": time_s, "gpu": where} for model, values in found.items()]


def _name(label: bytes | None) -> str | None:
    """A label's value, without what escapes it."""
    if label is None:
        return None
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label.decode(errors="replace"))


def _number(text: bytes) -> float | None:
    """What a gauge says; null of NaN, infinities and what is no number that it could mean."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= MOST else None


def _row(model: str | None, values: Mapping[str, list[float]], blocks: list[float]) -> dict[str, Any]:
    shares, total = values.get("kv_share"), _sum(blocks)
    return {
        "model": model,
        "queue": _sum(values.get("queue")),
        "running": _sum(values.get("running")),
        "kv_used_blocks": min(MOST, round(sum(shares) / len(shares) * total)) if shares and total else None,
        "kv_total_blocks": total,
    }


def _sum(values: list[float] | None) -> int | None:
    return min(MOST, int(sum(values))) if values else None


@dataclass
class Scraper:
    """Asks each endpoint in its turn; one that never had such a page is not asked again."""

    endpoints: list[tuple[Endpoint, Dial]]
    origin_s: float  # the instant (time.monotonic) of the trace's second 0
    every_s: float = EVERY_S
    _told: set[int] = field(default_factory=set)
    _looks: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _next_s: float = 0.0

    def look(self) -> None:
        """Ask, if it is time."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self.every_s
        self._looks += 1
        for n, (target, dial) in enumerate(self.endpoints):
            if n in self._told or self._looks <= MOST_FAILURES:
                exchange = asking.get(target, dial, "/metrics", wait_s=EVERY_S)
                known = exchange.failure is None and exchange.status_code == 200
                found = rows(b"".join(exchange.parts), now_s - self.origin_s, target.url) if known else []
                self._rows += found
                if found:
                    self._told.add(n)

    def frame(self) -> pl.DataFrame:
        """The rows since the last call."""
        found, self._rows = self._rows, []
        return pl.DataFrame(found, infer_schema_length=None)
