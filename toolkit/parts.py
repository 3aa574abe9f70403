"""A trace in parts of time, each of which can be read elsewhere than the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from toolkit import plugins
from toolkit.executors import Executor
from toolkit.traces import Trace, TraceInfo


class Part(Protocol):
    """Requests of one stretch of time; it can be pickled, and read wherever its file is."""

    def read(self) -> Trace:
        """Its requests with times from the whole trace's first arrival; `info` and `parent_id` say nothing."""
        ...


@dataclass(frozen=True)
class Parted:
    """`parts` in order of time, and what is known of all of them together."""

    info: TraceInfo
    requests: int  # with an arrival
    first_s: float
    last_s: float
    parts: Sequence[Part]


def open_parts(paths: Sequence[str], executor: Executor, arguments: dict[str, Any]) -> Parted:
    """What is at `paths`, counted by the executor's workers; the reader is found through the plugin table."""
    reader = plugins.load("reader", "parts")
    parted: Parted = reader(list(paths), executor, **arguments)
    return parted
