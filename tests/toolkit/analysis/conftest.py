"""What the tests of the analyses share: a trace from a few columns, and one analysis' answer to it."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from toolkit import plugins
from toolkit.schema import TABLES, conform
from toolkit.traces import TraceInfo

Ask = Callable[..., dict[str, pl.DataFrame]]


@pytest.fixture(scope="session")
def ask() -> Ask:
    """`ask("arrivals", arrival_s=[…], …)`: the tables of an analysis; keyword `info` holds TraceInfo's fields."""

    def answer(name: str, *, info: dict[str, Any] | None = None, **columns: Any) -> dict[str, pl.DataFrame]:
        analysis = plugins.create("analysis", name)
        frame = conform(pl.DataFrame(columns), TABLES[analysis.table], source="test")
        about = TraceInfo("test", "test", "", frame.height, frame.height, **(info or {}))
        tables: dict[str, pl.DataFrame] = analysis.run(frame.select(analysis.columns), about)
        return tables

    return answer
