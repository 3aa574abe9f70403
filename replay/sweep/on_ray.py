"""What a worker on another host needs before it can replay a sweep's points."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from replay.sweep.source import Requests, Source, give, give_workload, read
from replay.sweep.work import compile_core


@dataclass(frozen=True)
class Sent:
    """Prepares a worker: the trace (or the workload's text) as it was read here, and a core that is compiled."""

    source: Source
    requests: Requests | None
    workload: bytes | None

    @classmethod
    def of(cls, source: Source) -> "Sent":
        if source.sweep.workload is not None:
            return cls(source, None, source.sweep.workload.read_bytes())
        return cls(source, read(source), None)

    def __call__(self) -> None:
        if self.workload is not None:
            give_workload(self.source, self.workload)
        if self.requests is not None:
            give(self.source, self.requests)
        with one_at_a_time():
            compile_core(self.source)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """One process of this host at a time: the first compiles the core, the others load what it made."""
    path = Path(tempfile.gettempdir()) / f"trace-toolkit-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
