"""Put questions to a trace: to each part as it is read where they can be asked so, to all of it where they cannot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Semaphore
from typing import Any, Literal

import polars as pl

from toolkit.analysis.looks import Looks
from toolkit.analysis.whole import Whole
from toolkit.errors import SettingFailure, nearest
from toolkit.gathering import Gathered, held, in_parts
from toolkit.protocols import Analysis
from toolkit.schema import TABLES

PART_ROWS = 2**21  # requests that a question is put to at once: what is made of them is small beside the trace
AHEAD = 8  # looks that are waited for while the next part is read
TOGETHER_ROWS = 20_000_000  # from here on memory counts more than time: what needs all rows runs one after the other
LONGEST = ("drift", "groups", "clients", "lengths", "idle")  # are begun first, so that the last to end are short

Tables = dict[str, pl.DataFrame]
Questions = Mapping[str, Analysis]


class Survey:
    """Answers by analysis. Two threads look, while the trace is read and after it."""

    def __init__(self, questions: Questions, asking: Callable[[str], None]):
        self._questions = {name: questions[name] for name in dict.fromkeys([*LONGEST, *questions]) if name in questions}
        self._asking = asking
        self._looks: dict[str, Looks] = {}
        self._frames: dict[str, pl.DataFrame] = {}  # of what is asked about all rows at once
        self._begun: list[Future[None]] = []
        self._room = Semaphore(AHEAD)

    @contextmanager
    def crew(self) -> Iterator[None]:
        """While it is entered, looks are taken."""
        with ThreadPoolExecutor(2) as self._crew:
            yield

    def of_stored(self, stored: pl.LazyFrame, whole: Whole) -> None:
        """Look at a trace while it is read, unless somebody asks about all rows at once."""
        names, columns = self._begin("trace", whole), wanted(self._questions, "trace")
        said = () if whole.info.block_scope else ("prefix_blocks",)
        some: dict[str, Any] = {name: self._questions[name] for name in names}
        if not all(hasattr(question, "about") for question in some.values()):
            self.of_table("trace", held(stored, columns, said), whole)
            return
        schema = stored.select(wanted(some, "trace")).collect_schema()
        concern = pl.any_horizontal(False, *(pl.col(question.about).is_not_null() for question in some.values()))
        kept = Gathered(schema)

        def take(number: int, part: pl.DataFrame) -> None:
            self._look(number, part)
            kept.add(part.select(schema.names()).filter(concern))

        in_parts(stored, columns, PART_ROWS, take, said)
        self._give(names, kept.frame())

    def of_table(self, table: str, frame: pl.DataFrame, whole: Whole) -> None:
        """Look at a table that is in memory."""
        names = self._begin(table, whole)
        for number, begin in enumerate(range(0, max(1, frame.height), PART_ROWS)):
            self._look(number, frame[begin : begin + PART_ROWS])
        self._give(names, frame)

    def answers(self) -> dict[str, Tables]:
        """What was found, when all was looked at."""
        self._wait()
        alone = [name for name, frame in self._frames.items() if frame.height >= TOGETHER_ROWS]
        found = {name: self._of_all(name) for name in alone}
        begun = {name: self._crew.submit(self._of_all, name) for name in self._frames if name not in found}
        self._begun = [self._crew.submit(look) for looks in self._looks.values() for look in looks.second()]
        self._wait()
        begun |= {name: self._crew.submit(self._finish, name) for name in self._looks}
        return found | {name: job.result() for name, job in begun.items()}

    def _begin(self, table: str, whole: Whole) -> list[str]:
        """Who looks at the table's parts is known then; the names of those that are asked about all of it."""
        mine = {name: question for name, question in self._questions.items() if question.table == table}
        self._now = {name: Looks(question, whole) for name, question in mine.items() if _looks_at_parts(question)}
        self._looks |= self._now
        self._info = whole.info
        return [name for name in mine if name not in self._now]

    def _look(self, number: int, part: pl.DataFrame) -> None:
        for name, looks in self._now.items():
            self._room.acquire()
            job = self._crew.submit(looks.first, number, part.select(self._questions[name].columns))
            job.add_done_callback(lambda _: self._room.release())
            self._begun.append(job)

    def _give(self, names: Sequence[str], frame: pl.DataFrame) -> None:
        self._frames |= {name: frame.select(self._questions[name].columns) for name in names}

    def _wait(self) -> None:
        for job in self._begun:
            job.result()

    def _of_all(self, name: str) -> Tables:
        self._asking(name)
        return self._questions[name].run(self._frames[name], self._info)

    def _finish(self, name: str) -> Tables:
        self._asking(name)
        return self._looks[name].finish()


def wanted(questions: Mapping[str, Analysis], table: Literal["trace", "outcomes"]) -> list[str]:
    """The columns of `table` that any question reads, in the table's order."""
    read = set()
    for name, question in questions.items():
        for column in question.columns if question.table == table else ():
            if column not in TABLES[table]:
                raise SettingFailure(
                    f"no column '{column}'", where=f"analysis {name}", hint=nearest(column, TABLES[table])
                )
            read.add(column)
    return [column for column in TABLES[table] if column in read]


def _looks_at_parts(question: Any) -> bool:
    """Whether it says what it finds in a part in little."""
    return hasattr(question, "partial") and not hasattr(question, "joined") and not hasattr(question, "shares")
