"""What a worker writes down: a line for every request that has ended, at once, in a file that only grows.

It is what a resumed run knows, so that nothing answered is sent again, whatever became of the processes.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from toolkit.errors import RunFailure


class Journal:
    """Appends lines to a file that belongs to this process alone."""

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFailure(
                "another replay still writes it", where=str(path), hint="wait until that one has ended"
            ) from error

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Write whole lines; OSError when the disk does not take them."""
        data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        os.close(self._file)


def in_use(path: Path) -> bool:
    """Whether a process still writes the journal."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


class Reader:
    """Reads a journal as it grows."""

    def __init__(self, path: Path, at: int = 0):
        self.path, self.at = path, at

    def lines(self, most_bytes: int = 1 << 24) -> Iterator[dict[str, Any]]:
        """The lines that are complete and were not read before, up to so many bytes."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.at)
            data = file.read(most_bytes)
        whole = data[: data.rfind(b"\n") + 1]
        self.at += len(whole)
        for line in whole.splitlines():
            yield orjson.loads(line)
