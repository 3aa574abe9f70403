"""The charts of drift and clients say what the tables hold, and take names as text."""

import numpy as np
import polars as pl
import pytest

from reports import drift_charts
from toolkit.analysis.clients import Clients
from toolkit.analysis.drift import Drift
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo

HOSTILE = "<img src=x onerror=alert(1)>"
N = 6000


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """Outputs double half-way through; one tenant of three has a name that would be markup."""
    rng = np.random.default_rng(0)
    output = 200 * np.exp(rng.standard_normal(N)) * (1 + (np.arange(N) >= N // 2))
    columns = {
        "request_id": np.arange(N),
        "arrival_s": np.sort(rng.random(N) * 7200),
        "tenant": rng.choice([HOSTILE, "a", "b"], N),
        "prompt_tokens": rng.lognormal(6, 1, N).astype(np.int32) + 1,
        "output_tokens": output.astype(np.int32) + 1,
    }
    return conform(pl.DataFrame(columns), TRACE, source="test")


def test_the_largest_change_is_said_and_marked(frame: pl.DataFrame) -> None:
    tables = Drift().run(frame.select(Drift.columns), TraceInfo("t", "t", "", N, N, span_s=7200.0))
    charts = {chart.name: chart for chart in drift_charts.drift(tables)}
    assert "No change" in charts["drift-prompt_tokens"].note
    assert "change point" in charts["drift-output_tokens"].note
    found = tables["change_points"].filter(pl.col("column") == "output_tokens")
    lines = [s for s in charts["drift-output_tokens"].figure.layout.shapes if s.type == "line"]
    assert len(lines) == found.height
    assert lines[0].x0 * 60 == pytest.approx(found["time_s"][0])
    assert "calibration" in charts
    assert all("nan" not in chart.json.lower().replace("rgba", "") for chart in charts.values())


def test_a_clients_name_is_text(frame: pl.DataFrame) -> None:
    tables = Clients().run(frame.select(Clients.columns), TraceInfo("t", "t", "", N, N, span_s=7200.0))
    (chart,) = drift_charts.clients(tables)
    assert "<img" not in chart.json
    assert "&lt;img" in chart.json


def test_without_times_there_is_nothing_to_draw(frame: pl.DataFrame) -> None:
    timeless = frame.with_columns(arrival_s=pl.lit(None, dtype=pl.Float64))
    tables = Drift().run(timeless.select(Drift.columns), TraceInfo("t", "t", "", N, N))
    assert [chart.name for chart in drift_charts.drift(tables) if chart.name.startswith("drift-")] == []


def test_a_change_of_one_tenant_is_drawn_and_its_name_is_text(frame: pl.DataFrame) -> None:
    """Outputs of the hostile tenant alone treble; the steps of all are taken out."""
    late = pl.col("request_id") >= N // 2
    own = (pl.col("tenant") == HOSTILE) & late
    flat = pl.when(late).then(pl.col("output_tokens") // 2 + 1).otherwise("output_tokens")
    changed = frame.with_columns(output_tokens=pl.when(own).then(flat * 3).otherwise(flat).cast(pl.Int32))
    tables = Drift().run(changed.select(Drift.columns), TraceInfo("t", "t", "", N, N, span_s=7200.0))
    charts = {chart.name: chart for chart in drift_charts.drift(tables)}
    chart = charts["strata-output_tokens"]
    assert list(chart.figure.data[0].x) == [60 * hours for hours in tables["strata_points"]["time_s"][:1] / 3600]
    assert "<img" not in chart.json
    assert "&lt;img" in chart.json
    assert chart.note.startswith(f"The clearest: tenant {HOSTILE} (")
    assert "strata-prompt_tokens" not in charts
