"""Bars on stderr, with rate and time left, when that is a terminal."""

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from toolkit.errors import printable


class Progress:
    """One bar a replay; silent where stderr is not a terminal."""

    def __init__(self, names: Sequence[str], total: int):
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]
        self._bars = Bars(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
        self._tasks: dict[str, TaskID] = {name: self._bars.add_task(printable(name), total=total) for name in names}

    def report(self, name: str, done: int, total: int) -> None:
        self._bars.update(self._tasks[name], completed=done, total=total)

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()
