"""Reading a table batch by batch, and not reading what holds nothing."""

from pathlib import Path

import polars as pl
import pytest

from toolkit import gathering
from toolkit.gathering import gathered, without_the_empty

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


def test_what_holds_nothing_is_null_and_nothing_else(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gathering, "MANY", 1)
    stored = pl.scan_parquet(file)
    frame = without_the_empty(stored, FRAME.columns, 6)
    assert frame.collect().equals(FRAME)
    assert gathered({"trace": frame})["trace"].equals(FRAME)
    assert "PROJECT 3/5 COLUMNS" in frame.explain()  # what is empty is not read


def test_few_rows_are_read_as_they_are(file: Path):
    stored = pl.scan_parquet(file)
    assert without_the_empty(stored, FRAME.columns, 6) is stored
