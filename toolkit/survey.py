"""Put questions to a trace: to each part as it is read where they can be asked so, to all of it where they cannot."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from threading import Semaphore
from typing import Any, Literal

import polars as pl

from toolkit.analysis.looks import Looks
from toolkit.analysis.whole import Whole
from toolkit.errors import SettingFailure, nearest
from toolkit.gathering import Gathered, held, in_parts
from toolkit.protocols import Analysis
from toolkit.schema import TABLES
from toolkit.traces import TraceInfo

PART_ROWS = 2**21  # requests that a question is put to at once: what is made of them is small beside the trace
AHEAD = 8  # looks that are waited for while the next part is read
TOGETHER_ROWS = 20_000_000  # from here on memory counts more than time: what needs all rows runs one after the other
LONGEST = ("drift", "groups", "clients", "lengths", "idle")  # are begun first, so that the last to end are short

Tables = dict[str, pl.DataFrame]
Questions = Mapping[str, Analysis]


class Survey:
    """Answers by analysis, which the crew finds while the trace is read and after it; `asking` is told whose is due."""

    def __init__(self, questions: Questions, info: TraceInfo, crew: Executor, asking: Callable[[str], None]):
        self._questions = {name: questions[name] for name in dict.fromkeys([*LONGEST, *questions]) if name in questions}
        self._info, self._crew, self._asking = info, crew, asking
        self._looks: dict[str, Looks] = {}
        self._frames: dict[str, pl.DataFrame] = {}  # of what is asked about all rows at once
        self._begun: list[Future[None]] = []
        self._room = Semaphore(AHEAD)

    def of_stored(self, stored: pl.LazyFrame, whole: Whole) -> None:
        """Look at a trace while it is read, unless somebody asks about all rows at once."""
        columns = wanted(self._questions, "trace")
        said = () if self._info.block_scope else ("prefix_blocks",)
        whole_only = self._of_whole("trace")
        if not all(hasattr(question, "about") for question in whole_only.values()):
            self.of_table("trace", held(stored, columns, said), whole)
            return
        looks = self._begin("trace", whole)
        schema = stored.select(wanted(whole_only, "trace")).collect_schema()
        concern = pl.any_horizontal(False, *(pl.col(question.about).is_not_null() for question in whole_only.values()))
        kept = Gathered(schema)

        def take(number: int, part: pl.DataFrame) -> None:
            self._look(looks, number, part)
            kept.add(part.select(schema.names()).filter(concern))

        in_parts(stored, columns, PART_ROWS, take, said)
        self._give("trace", kept.frame())

    def of_table(self, table: str, frame: pl.DataFrame, whole: Whole) -> None:
        """Look at a table that is in memory."""
        looks = self._begin(table, whole)
        for number, begin in enumerate(range(0, max(1, frame.height), PART_ROWS)):
            self._look(looks, number, frame[begin : begin + PART_ROWS])
        self._give(table, frame)

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

    def _of_whole(self, table: str) -> dict[str, Any]:
        """Questions that are put to all of a table."""
        mine = {name: question for name, question in self._questions.items() if question.table == table}
        return {name: question for name, question in mine.items() if not _looks_at_parts(question)}

    def _begin(self, table: str, whole: Whole) -> dict[str, Looks]:
        """Who looks at the table's parts."""
        others = self._of_whole(table)
        mine = {name: q for name, q in self._questions.items() if q.table == table and name not in others}
        looks = {name: Looks(question, whole) for name, question in mine.items()}
        self._looks |= looks
        return looks

    def _look(self, looks: Mapping[str, Looks], number: int, part: pl.DataFrame) -> None:
        for name, own in looks.items():
            self._room.acquire()
            job = self._crew.submit(own.first, number, part.select(self._questions[name].columns))
            job.add_done_callback(lambda _: self._room.release())
            self._begun.append(job)

    def _give(self, table: str, frame: pl.DataFrame) -> None:
        self._frames |= {name: frame.select(question.columns) for name, question in self._of_whole(table).items()}

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
