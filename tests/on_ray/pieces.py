"""Pieces of work for the tests: what workers of another process can import."""

import os
import time
from pathlib import Path

from toolkit.errors import SettingFailure


def worked(item: int) -> int:
    if item == 3:
        raise SettingFailure("does not fit", where="three")
    if item == 4:
        raise ValueError("a bug\nwith a second line")
    if item == 5:
        os._exit(1)
    return item * item


def prepared() -> None:
    raise SettingFailure("cannot serve", where="here")


class Slow:
    """Takes a second, and leaves a mark of each time that it began."""

    def __init__(self, marks: Path):
        self.marks = marks

    def __call__(self, item: int) -> int:
        (self.marks / f"{item}-{time.time_ns()}").touch()
        time.sleep(1)
        return -item
