"""A question put to a trace part by part: what is found at first sight, and what only by who knows of all parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from toolkit.analysis.whole import Whole

Tables = dict[str, pl.DataFrame]


class Looks:
    """One analysis' finds. Parts may come in any order, and from several threads."""

    def __init__(self, question: Any, whole: Whole):
        self._question, self._whole = question, whole
        self._first: dict[int, Any] = {}
        self._left: dict[int, pl.DataFrame] = {}
        self._second: dict[int, Any] = {}

    def first(self, number: int, part: pl.DataFrame) -> None:
        """Look at a part of the trace."""
        self._first[number] = self._question.partial(part, replace(self._whole, part=number))
        if looks_again(self._question):
            self._left[number] = self._question.again(part)

    def second(self) -> list[Callable[[], None]]:
        """What is left to do when all parts were seen, in any order."""
        if not looks_again(self._question):
            return []
        self._whole = replace(self._whole, seen=self._question.told(in_order(self._first), self._whole))
        return [lambda number=number: self._again(number) for number in sorted(self._left)]  # type: ignore[misc]

    def finish(self) -> Tables:
        """The tables, when nothing is left to do."""
        return finished(self._question, in_order(self._first), in_order(self._second), self._whole)

    def _again(self, number: int) -> None:
        rows = self._left.pop(number)
        self._second[number] = self._question.second(rows, replace(self._whole, part=number))


def looks_again(question: Any) -> bool:
    """Whether it has a second look at the parts."""
    return hasattr(question, "second")


def in_order(found: dict[int, Any]) -> list[Any]:
    return [found[number] for number in sorted(found)]


def finished(question: Any, first: Sequence[Any], second: Sequence[Any], whole: Whole) -> Tables:
    """Its tables from what it found in the parts, in order of time."""
    parts = list(zip(first, second, strict=True)) if looks_again(question) else list(first)
    tables: Tables = question.finish(parts, whole)
    return tables


def in_one_piece(question: Any, frame: pl.DataFrame, whole: Whole) -> Tables:
    """What it says of a trace that is one part."""
    looks = Looks(question, whole)
    looks.first(0, frame)
    for look in looks.second():
        look()
    return looks.finish()
