"""A worker's plan: rows by arrival in one file, and the turns that wait for others in another, found by place."""

from collections.abc import Iterator
from pathlib import Path

from replay.http.rows import Row, row


class Plan:
    """Reads a worker's plan, a row at a time; what was answered before is left out."""

    def __init__(self, rows: Path, turns: Path):
        self._rows, self._turns = rows, turns

    def rows(self) -> Iterator[Row]:
        """The rows that arrive by the clock, in order."""
        with self._rows.open("rb") as file:
            for text in file:
                yield row(text)

    def turns(self, places: list[int]) -> list[Row]:
        """The turns at `places`."""
        if not places:
            return []
        found = []
        with self._turns.open("rb") as file:
            for place in places:
                file.seek(place)
                found.append(row(file.readline()))
        return found
