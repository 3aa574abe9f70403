"""Bars on stderr, with rate and time left, when that is a terminal."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from toolkit.errors import printable

Report = Callable[[str, int, int], None]


@contextmanager
def progress(names: Sequence[str], total: int) -> Iterator[Report]:
    """One bar a name while the block runs; gives what moves them. Silent without names or terminal."""
    if not names or not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {name: bars.add_task(printable(name), total=total) for name in names}
        yield lambda name, done, total: bars.update(tasks[name], completed=done, total=total)
