"""What the tests of the analyses share: a trace from a few columns, and one analysis' answer to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from toolkit import plugins
from toolkit.analysis.arrivals import Arrivals
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


def dispersion(arrival_s: NDArray[np.float64], clock_step_s: float | None) -> pl.DataFrame:
    """The table of that name."""
    about = TraceInfo("test", "test", "", len(arrival_s), len(arrival_s), clock_step_s=clock_step_s)
    return Arrivals().run(pl.DataFrame({"arrival_s": arrival_s}), about)["dispersion"]
