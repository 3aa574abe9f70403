"""What holds for every analysis: the same tables always, with and without rows, as docs/analyses.md lists them."""

import re
from pathlib import Path

import polars as pl
import pytest

from toolkit.plugins import plugins
from toolkit.schema import TABLES
from toolkit.traces import TraceInfo

NAMES = sorted(plugins("analysis"))
DOCS = (Path(__file__).parents[3] / "docs" / "analyses.md").read_text()
FULL = {
    "trace": {
        "arrival_s": [0.0, 1.0, 1.5, 90.0, 700.0, 200_000.0] * 20,
        "model": ["a", "b", None] * 40,
        "tenant": ["x", "y", "z", "w"] * 30,
        "session_id": ["s", "t"] * 60,
        "prompt_tokens": [1, 10, 100, 1000, 20, 30] * 20,
        "output_tokens": [0, 3, 5, 7, 11, 13] * 20,
        "prefix_blocks": [[1, 2], [1, 3], None, [], [1], [2]] * 20,
        "source_e2e_s": [0.5, None, 2.0] * 40,
    },
    "outcomes": {
        "arrival_s": [0.0, 1.0, 2.0],
        "start_s": [0.0, 1.0, None],
        "first_token_s": [0.5, 1.5, None],
        "finish_s": [1.0, 3.0, None],
        "output_tokens": [2, 3, None],
        "status": ["ok", "ok", "error"],
    },
}


def run(name: str, rows: int | None) -> dict[str, pl.DataFrame]:
    made = plugins("analysis")[name].load()()
    schema = TABLES[made.table]
    full = pl.DataFrame(FULL[made.table], schema={c: schema[c] for c in FULL[made.table]}).sort("arrival_s")
    frame = pl.concat([schema.to_frame(), full], how="diagonal")
    frame = frame if rows is None else frame.head(rows)
    return made.run(frame.select(made.columns), TraceInfo("t", "t", "", frame.height, frame.height, block_tokens=16))


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_tables_keep_their_columns_however_little_there_is(name: str, rows: int) -> None:
    full, little = run(name, None), run(name, rows)
    assert {t: f.schema for t, f in little.items()} == {t: f.schema for t, f in full.items()}
    if rows == 0:
        assert all(frame.is_empty() for frame in little.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_table_and_column_is_documented(name: str) -> None:
    section = DOCS.split(f"## {name}:")[1].split("\n## ")[0]
    for table, frame in run(name, None).items():
        row = re.search(rf"^\| `{table}`.*$", section, re.MULTILINE)
        assert row, f"{name}.{table} is not in docs/analyses.md"
        documented = set(re.findall(r"`(\w+)`", row.group()))
        assert set(frame.columns) <= documented, (name, table)


@pytest.mark.parametrize("name", NAMES)
def test_no_table_holds_nan(name: str) -> None:
    for table, frame in run(name, None).items():
        floats = frame.select(pl.selectors.float())
        assert not any(column.is_nan().any() for column in floats), (name, table)
