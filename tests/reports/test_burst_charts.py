"""The page shows groups that burst together, their verdict, and names as text."""

import json

import numpy as np
import polars as pl
import pytest

from reports import burst_charts
from reports.page import Chart
from reports.trace_page import render
from toolkit.analysis.groups import Groups
from toolkit.traces import TraceInfo

NAMES = ["<b>bold</b>", "<b>bold</b> too", "</script><script>alert(1)", "plain", "x" * 300, "x" * 300 + "y"]
INFO = TraceInfo("t", "t", "", 1, 1)
Frames = dict[str, pl.DataFrame]


def frames(grouped: int) -> Frames:
    """Six models over eight hours, the first `grouped` of them in one group."""
    rng = np.random.default_rng(3)
    starts = np.sort(rng.random(50)) * 28_800
    own = [rng.random(100) * 28_800 for _ in NAMES]
    for i in range(grouped):
        own[i] = np.concatenate([own[i], np.repeat(starts, 8) + rng.random(400) * 60])
    model = np.repeat(NAMES, [len(t) for t in own])
    frame = pl.DataFrame({"arrival_s": np.concatenate(own), "model": model}).sort("arrival_s")
    return Groups().run(frame.with_columns(tenant=pl.lit(None, dtype=pl.String)), INFO)


@pytest.fixture(scope="module")
def grouped() -> Frames:
    return frames(3)


@pytest.fixture(scope="module")
def drawn(grouped: Frames) -> dict[str, Chart]:
    return {chart.name: chart for chart in burst_charts.charts(grouped)}


def test_every_chart_is_drawn_with_its_data(drawn: dict[str, Chart]) -> None:
    assert list(drawn) == ["group-activity", "group-pairs", "group-timeline"]
    assert all(chart.data.height for chart in drawn.values())
    assert "3 of 15 pairs are associated" in drawn["group-pairs"].note


def test_names_that_are_cut_alike_keep_rows_of_their_own(drawn: dict[str, Chart]) -> None:
    figure = json.loads(drawn["group-activity"].json)
    assert len(figure["layout"]["yaxis"]["ticktext"]) == len(NAMES)
    assert len(set(figure["layout"]["yaxis"]["tickvals"])) == len(NAMES)


def test_the_page_says_the_verdict_and_shows_names_as_text(grouped: Frames) -> None:
    page = render({"groups": grouped}, INFO)
    assert "Who bursts together?" in page
    assert "1 group of models bursts together" in page
    assert "<b>bold" not in page
    assert "<script>alert" not in page


def test_no_group_is_said_with_the_power() -> None:
    found = frames(0)
    said = burst_charts.verdict(found["summary"].row(0, named=True))
    assert said.startswith("No group of models bursts together")
    assert "would be found with probability" in said
    assert [chart.name for chart in burst_charts.charts(found)][-1] == "group-timeline"
