"""What a worker is told of a request: one line of its plan."""

from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Row:
    """A request to send. `arrival_s` is null for a turn that waits `think_s` for its parent to end."""

    id: int
    arrival_s: float | None
    prompt: int | None  # tokens
    output: int | None  # tokens
    think_s: float = 0.0
    route: int = 0  # which of the worker's routes
    rank: float = 0.0  # who is let in first; for a waiting turn, if it arrived at 0
    rise: float = 0.0  # what a second of later arrival adds to a waiting turn's rank
    lane: int = 0  # which of the scheduler's queues it waits in
    after_s: float | None = None  # its rank changes once, by `shift`, when it has waited so long
    shift: float = 0.0
    priority: int | None = None
    blocks: list[int] = field(default_factory=list)  # prefix block hashes
    text: str | None = None  # the trace's own prompt
    turns: list[int] = field(default_factory=list)  # where the turns that wait for it stand in the file of turns


def line(values: dict[str, Any]) -> bytes:
    """A row's line; what has its default is left out."""
    return orjson.dumps(values) + b"\n"


def row(text: bytes) -> Row:
    return Row(**orjson.loads(text))
