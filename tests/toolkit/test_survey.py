"""Who is asked what of a trace: parts while it is read, or all of it, with what was seen kept apart."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from toolkit import survey
from toolkit.analysis.whole import Whole
from toolkit.errors import SettingFailure
from toolkit.schema import TRACE, conform
from toolkit.survey import Survey, wanted
from toolkit.traces import TraceInfo

ROWS = 10
INFO = TraceInfo("t", "t", "", ROWS, ROWS)


class Asked:
    table, columns = "trace", ("arrival_s", "model")


class OfParts(Asked):
    """How many rows each part has, and after each how many there were before it."""

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        raise AssertionError("is asked about parts")

    def partial(self, frame: pl.DataFrame, whole: Whole) -> int:
        return frame.height

    def told(self, parts: list[int], whole: Whole) -> list[int]:
        return parts

    def again(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select("arrival_s").head(1)

    def second(self, rows: pl.DataFrame, whole: Whole) -> tuple[float, int]:
        return rows["arrival_s"][0], sum(whole.seen[: whole.part])

    def finish(self, parts: list[tuple[int, tuple[float, int]]], whole: Whole) -> dict[str, pl.DataFrame]:
        rows = [(rows, *second) for rows, second in parts]
        return {"parts": pl.DataFrame(rows, schema=["rows", "first_s", "before"], orient="row")}


class OfAll(Asked):
    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        return {"all": frame}


class OfSessions(OfAll):
    columns = ("arrival_s", "session_id")
    about: ClassVar[str] = "session_id"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.LazyFrame:
    monkeypatch.setattr(survey, "PART_ROWS", 4)
    columns = {"arrival_s": [float(i) for i in range(ROWS)], "session_id": [None] * 8 + ["s", None]}
    conform(pl.DataFrame(columns), TRACE, source="t").write_parquet(tmp_path / "t.parquet", row_group_size=3)
    return pl.scan_parquet(tmp_path / "t.parquet")


def answers(stored: pl.LazyFrame, **questions: Any) -> dict[str, dict[str, pl.DataFrame]]:
    with ThreadPoolExecutor(2) as crew:
        asked = Survey(questions, INFO, crew, lambda name: None)
        asked.of_stored(stored, Whole(INFO, ROWS, 0.0, 9.0))
        return asked.answers()


def test_parts_are_looked_at_twice_in_order(stored: pl.LazyFrame) -> None:
    found = answers(stored, parts=OfParts())["parts"]["parts"]
    assert found.rows() == [(4, 0.0, 0), (4, 4.0, 4), (2, 8.0, 8)]


def test_only_rows_that_concern_somebody_are_kept(stored: pl.LazyFrame) -> None:
    found = answers(stored, parts=OfParts(), sessions=OfSessions())
    assert found["sessions"]["all"].rows() == [(8.0, "s")]
    assert found["parts"]["parts"]["rows"].to_list() == [4, 4, 2]


def test_who_asks_about_all_gets_all(stored: pl.LazyFrame) -> None:
    found = answers(stored, parts=OfParts(), sessions=OfSessions(), everything=OfAll())
    assert found["everything"]["all"]["arrival_s"].to_list() == [float(i) for i in range(ROWS)]
    assert found["sessions"]["all"].height == ROWS
    assert found["parts"]["parts"]["rows"].to_list() == [4, 4, 2]


def test_what_a_look_raises_comes_out(stored: pl.LazyFrame) -> None:
    class Broken(OfParts):
        def partial(self, frame: pl.DataFrame, whole: Whole) -> int:
            raise ZeroDivisionError(f"part {whole.part}")

    with pytest.raises(ZeroDivisionError, match="part 0"):
        answers(stored, broken=Broken())


def test_an_unknown_column_is_refused_by_name(stored: pl.LazyFrame) -> None:
    class Misspelt(OfAll):
        columns = ("arrivals_s",)

    with pytest.raises(SettingFailure, match="analysis misspelt: no column 'arrivals_s'"):
        wanted({"misspelt": Misspelt()}, "trace")
