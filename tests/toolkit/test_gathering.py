"""Reading a table batch by batch, and not reading what holds nothing."""

from pathlib import Path

import polars as pl
import pytest

from toolkit import gathering
from toolkit.gathering import empty, gathered, held, in_parts

FRAME = pl.DataFrame(
    {
        "request_id": range(6),
        "model": [None, None, None, None, None, "late"],
        "tenant": pl.Series([None] * 6, dtype=pl.String),
        "think_s": pl.Series([None] * 6, dtype=pl.Float64),
        "prefix_blocks": pl.Series([None] * 5 + [[1, 2]], dtype=pl.List(pl.UInt64)),
    }
)


@pytest.fixture(params=[True, False], ids=["statistics", "none"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Row groups of two, of which only the last has names."""
    FRAME.write_parquet(tmp_path / "t.parquet", row_group_size=2, statistics=request.param)
    return tmp_path / "t.parquet"


def test_what_holds_nothing_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "HEAD", 2)
    stored = pl.scan_parquet(file)
    assert empty(stored, FRAME.columns) == ["tenant", "think_s"]
    assert empty(stored, FRAME.columns, said=["think_s", "prefix_blocks", "request_id"]) == [
        "tenant",
        "think_s",
        "prefix_blocks",
    ]


def test_in_memory_it_is_as_it_is_stored(file: Path) -> None:
    assert held(pl.scan_parquet(file), FRAME.columns, said=["tenant"]).equals(FRAME)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_parts_are_the_table_in_order(file: Path, rows: int) -> None:
    parts: list[tuple[int, pl.DataFrame]] = []
    in_parts(pl.scan_parquet(file), FRAME.columns, rows, lambda *part: parts.append(part))
    assert [number for number, _ in parts] == list(range(len(parts)))
    assert [part.height for _, part in parts] == [min(rows, 6 - begin) for begin in range(0, 6, rows)]
    assert pl.concat(part for _, part in parts).equals(FRAME)


def test_tables_are_gathered_in_one_pass(file: Path) -> None:
    assert gathered({"trace": pl.scan_parquet(file)})["trace"].equals(FRAME)
