"""Requests as bytes, made ahead of time from a row of the plan."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from replay.http.endpoint import Endpoint
from replay.http.prompts import Units, mixed
from replay.http.rows import Row

OWN = 1 << 63  # sets the numbers of requests apart from those of prefix blocks, which often count from 0
FOUND = (
    *("api", "first_id", "last_id", "overhead_tokens", "tokens_per_unit"),
    *("ignore_eos", "min_tokens", "usage", "user"),
)  # of a recipe
PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True)
class Recipe:
    """What an endpoint takes: found by the probe, or told.

    A prompt of n tokens has (n − `overhead_tokens`) / `tokens_per_unit` units.
    """

    api: str = "completions"
    first_id: int | None = None  # prompts are token ids from here …
    last_id: int | None = None  # … to here; words where null …
    words: list[str] = field(default_factory=list)  # … of one token each by its tokenizer, where that is known
    overhead_tokens: float = 0.0
    tokens_per_unit: float = 1.0
    ignore_eos: bool = True
    min_tokens: bool = True
    usage: bool = True
    user: bool = True
    block_tokens: int = 16
    seed: int = 0
    hints: int | None = None  # the run whose scheduler inside the engine knows these requests
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of every body

    @property
    def found(self) -> dict[str, Any]:
        """What a probe finds."""
        return {name: getattr(self, name) for name in FOUND}


class Bodies:
    """Makes the bytes of requests to one endpoint for one served model."""

    def __init__(self, endpoint: Endpoint, model: str, recipe: Recipe, *, close: bool):
        self._recipe = recipe
        self._units = Units(recipe.first_id, recipe.last_id, tuple(recipe.words))
        self._salt = mixed(recipe.seed)  # the blocks of another run may be in the server's cache
        marker = endpoint.head("POST", PATHS[recipe.api], 0)
        before, _, after = marker.partition(b"Content-Length: 0")
        self._before = before + (b"Connection: close\r\n" if close else b"") + b"Content-Length: "
        self._after = after
        self._model = b'{"model":' + orjson.dumps(model)
        self._block_units = max(1, round(recipe.block_tokens / recipe.tokens_per_unit))

    def request(self, row: Row) -> bytes:
        """Head and body."""
        body = b"".join((self._model, self._prompt(row), self._settings(row)))
        return b"".join((self._before, b"%d" % len(body), self._after, body))

    def _prompt(self, row: Row) -> bytes:
        ids = self._recipe.first_id is not None and row.text is None
        text = orjson.dumps(row.text) if row.text is not None else self._made(row, ids)
        if self._recipe.api == "chat":
            return b',"messages":[{"role":"user","content":' + text + b"}]"
        return b',"prompt":' + text

    def _made(self, row: Row, ids: bool) -> bytes:
        blocks = [block ^ self._salt for block in row.blocks]
        number = OWN | self._recipe.seed << 40 | row.id
        made = self._units.prompt(number, self.units(row), blocks, self._block_units)
        return b"[" + made[:-1] + b"]" if ids else b'"' + made[1:] + b'"'

    def units(self, row: Row) -> int:
        """Units that come nearest to the traced length; at least one, for no engine takes an empty prompt."""
        tokens = 1 if row.prompt is None else row.prompt
        return max(1, round((tokens - self._recipe.overhead_tokens) / self._recipe.tokens_per_unit))

    def _settings(self, row: Row) -> bytes:
        recipe, settings = self._recipe, dict(self._recipe.extra)
        if row.output is not None:
            settings["max_tokens"] = max(1, row.output)
            if recipe.ignore_eos:
                settings["ignore_eos"] = True
            if recipe.min_tokens:
                settings["min_tokens"] = max(1, row.output)
        if row.priority is not None:
            settings["priority"] = row.priority
        if recipe.hints is not None:
            settings["vllm_xargs"] = {
                "trace_run": recipe.hints,
                "trace_request": row.id,
                "trace_arrival_s": row.arrival_s,
            }
        settings["stream"] = True
        if recipe.usage:
            settings["stream_options"] = {"include_usage": True}
        if recipe.user:
            settings["user"] = f"REQ{row.id}"
        return b"," + orjson.dumps(settings)[1:]
