"""Idle intervals and concurrency against counts by hand and by brute force."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from toolkit import plugins
from toolkit.analysis.idle import ACTIVE_S, Idle
from toolkit.analysis.looks import Looks
from toolkit.analysis.whole import Whole
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo


def test_gaps_are_a_models_own(ask) -> None:
    tables = ask("idle", arrival_s=[0.0, 5.0, 11.0, 12.0, 30.0, 3600.0], model=["a", "b", "a", "b", "a", "b"])
    rows = {row["model"]: row for row in tables["models"].to_dicts()}
    assert (rows["a"]["idle_intervals"], rows["a"]["idle_s"], rows["a"]["longest_s"]) == (2, 30, 19)
    assert (rows["b"]["idle_intervals"], rows["b"]["idle_s"]) == (1, 3588)
    assert rows["a"]["idle_per_h"] == 2
    assert rows["b"]["idle_share"] == pytest.approx(3588 / 3600)


def test_the_threshold_is_a_parameter(ask) -> None:
    assert ask("idle:threshold_s=20", arrival_s=[0.0, 15.0, 40.0])["models"]["idle_intervals"].to_list() == [1]
    assert plugins.create("analysis", "idle").threshold_s == 10


def test_rate_cv_counts_silent_minutes_and_leaves_out_the_cut_one(ask) -> None:
    table = ask("idle", arrival_s=[0.0, 1.0, 2.0, 130.0, 185.0], model=["a"] * 5)["models"]
    assert table["rate_cv"][0] == pytest.approx(np.std([3, 0, 1]) / np.mean([3, 0, 1]))


def naive_mean(begin: np.ndarray, end: np.ndarray, low: float, high: float) -> float:
    return float(np.clip(np.minimum(end, high) - np.maximum(begin, low), 0, None).sum() / (high - low))


stays = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 90)), min_size=2, max_size=40)


@given(stays)
def test_requests_in_flight_are_the_overlaps(stays: list[tuple[int, int]]) -> None:
    begin, stay = (np.array(v, dtype=float) for v in zip(*sorted(stays), strict=True))
    if begin[0] == begin[-1]:
        return
    tables = run(pl.DataFrame({"arrival_s": begin, "source_e2e_s": stay}))
    begin = begin - begin[0]
    end = begin + stay
    level = tables["concurrency"]
    edges = [*level["start_s"], end.max()]
    for i, row in enumerate(level.to_dicts()):
        assert row["mean"] == pytest.approx(naive_mean(begin, end, edges[i], edges[i + 1]), abs=1e-9)
    lasting = end > begin
    at = [((begin[lasting] <= t) & (t < end[lasting])).sum() for t in begin]
    assert tables["summary"]["max"][0] == max(at, default=0)
    assert tables["summary"]["basis"][0] == "requests in flight"


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, 0, 0, 1, 5, 40, -3])), min_size=2, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_what_is_in_flight_does_not_depend_on_the_parts(
    requests: list[tuple[int, int | None]], cuts: list[int]
) -> None:
    """Ends that reach over several parts or before their own, stays of no length at a border, parts all at once."""
    arrival, stay = zip(*sorted(requests, key=lambda one: one[0]), strict=True)
    columns = {
        "arrival_s": np.array(arrival) - arrival[0],
        "source_e2e_s": stay,
        "model": (["a", "b"] * 15)[: len(stay)],
    }
    frame = conform(pl.DataFrame(columns), TRACE, source="test").select(Idle.columns)
    info, n = TraceInfo("t", "t", "", frame.height, frame.height), frame.height
    parts = [frame[a:b] for a, b in pairwise(sorted({0, n, *(min(cut, n) for cut in cuts)}))]
    asked = Idle()
    looks = Looks(asked, Whole.of(frame, info))
    for number, part in enumerate(parts):
        looks.first(number, part)
    for look in reversed(looks.second()):
        look()
    expected = asked.run(frame, info)
    for name, table in looks.finish().items():
        assert_frame_equal(table, expected[name], check_exact=True)


@given(st.lists(st.tuples(st.integers(0, 900), st.sampled_from("abc")), min_size=2, max_size=40))
def test_active_models_are_those_with_a_recent_request(requests: list[tuple[int, str]]) -> None:
    arrival, model = zip(*sorted(requests), strict=True)
    if arrival[0] == arrival[-1] or len(set(model)) < 2:
        return
    tables = run(pl.DataFrame({"arrival_s": arrival, "model": model}))
    span = arrival[-1] - arrival[0]
    instants = np.arange(2 * span) / 2 + 0.25  # nothing changes at these
    recent = np.zeros(len(instants))
    for name in set(model):
        own = np.array([t - arrival[0] for t, m in requests if m == name])
        since = instants[:, None] - own[None, :]
        recent += ((since >= 0) & (since < ACTIVE_S)).any(axis=1)
    assert tables["summary"]["mean"][0] == pytest.approx(recent.mean())
    assert tables["summary"]["max"][0] >= recent.max()


def run(columns: pl.DataFrame) -> dict[str, pl.DataFrame]:
    frame = conform(columns.sort("arrival_s"), TRACE, source="test")
    return Idle().run(frame.select(Idle.columns), TraceInfo("t", "t", "", frame.height, frame.height))
