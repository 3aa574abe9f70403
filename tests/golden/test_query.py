"""Queries held in files: requests.csv, a question NAME.sql, its answer NAME.csv."""

import io
from pathlib import Path

import pytest

from toolkit.results import write_csv
from toolkit.sql import database, select

FOLDER = Path(__file__).parent / "query"


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.sql")))
def test_answer(name: str) -> None:
    file = io.BytesIO()
    with database(traces=[FOLDER / "requests.csv"]) as connection:
        write_csv(select(connection, (FOLDER / f"{name}.sql").read_text()), file)
    assert file.getvalue().decode() == (FOLDER / f"{name}.csv").read_text()
