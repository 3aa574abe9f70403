"""Bars on stderr, with rate and time left, when that is a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from toolkit.errors import printable


class Report(Protocol):
    """Moves a bar; `said` goes beside its name."""

    def __call__(self, name: str, done: int, total: int, said: str = "") -> None: ...


@contextmanager
def progress(names: Sequence[str], total: int) -> Iterator[Report]:
    """One bar a name while the block runs; gives what moves them. Silent without names or terminal."""
    if not names or not sys.stderr.isatty():
        yield lambda name, done, total, said="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {name: bars.add_task(printable(name), total=total) for name in names}

        def move(name: str, done: int, total: int, said: str = "") -> None:
            named = f"{name} · {said}" if said else name
            bars.update(tasks[name], completed=done, total=total, description=printable(named))

        yield move
