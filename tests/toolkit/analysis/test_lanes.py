"""What lanes do, put together from parts, against counts request by request."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.analysis.lanes import MINUTE_S, LaneActivity, Lanes

IDLE_S = 10.0
MINUTES = 9

requests = st.lists(st.tuples(st.integers(0, 600), st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=60)
cuts = st.lists(st.integers(0, 60), max_size=4)


def activity(arrived: list[tuple[int, str | None]], edges: list[int], active_s: float) -> LaneActivity:
    times, names = np.array([t for t, _ in arrived], dtype=float), pl.Series([n for _, n in arrived], dtype=pl.String)
    parts = [
        LaneActivity.of(Lanes.of(names[a:b], times[a:b]), IDLE_S, MINUTES, active_s)
        for a, b in pairwise(sorted({0, len(arrived), *(min(edge, len(arrived)) for edge in edges)}))
    ]
    first = LaneActivity.merged(parts[:2], IDLE_S, active_s)
    return LaneActivity.merged([first, *parts[2:]], IDLE_S, active_s)


@given(requests, cuts, st.sampled_from([5.0, 10.0, 120.0]))
def test_parts_put_together_are_counted_request_by_request(
    arrived: list[tuple[int, str | None]], edges: list[int], active_s: float
) -> None:
    arrived.sort(key=lambda one: one[0])
    found = activity(arrived, edges, active_s)
    assert sorted(map(str, found.names)) == sorted({str(name) for _, name in arrived})
    for k, name in enumerate(found.names):
        own = [float(t) for t, n in arrived if n == name]
        gaps = [b - a for a, b in pairwise(own)]
        long = [gap for gap in gaps if gap > IDLE_S]
        assert (found.requests[k], found.first_s[k], found.last_s[k]) == (len(own), own[0], own[-1])
        assert found.longest_s[k] == max(gaps, default=-np.inf)
        assert (found.idle[k], found.idle_ns[k]) == (len(long), sum(long) * 1e9)
        counts = np.bincount([int(t // MINUTE_S) for t in own if t < MINUTES * MINUTE_S], minlength=1)
        assert (found.minutes.requests[k], found.minutes.all_squares[k]) == (counts.sum(), (counts**2).sum())
        wakes = [own[0], *(b for a, b in pairwise(own) if b - a > active_s)]
        sleeps = [*(a for a, b in pairwise(own) if b - a > active_s), own[-1]]
        assert found.wakes_s[found.lane == k].tolist() == wakes
        assert found.sleeps_s[found.lane == k].tolist() == sleeps


@given(requests, cuts, st.randoms())
def test_another_order_moves_all_of_a_lane(arrived: list[tuple[int, str | None]], edges: list[int], rng) -> None:
    arrived.sort(key=lambda one: one[0])
    found = activity(arrived, edges, 30.0)
    order = list(range(len(found.names)))
    rng.shuffle(order)
    moved = found.sorted(order)
    for place, k in enumerate(order):
        assert moved.names[place] == found.names[k]
        for name in ("requests", "longest_s", "idle_ns", "spells"):
            assert getattr(moved, name)[place] == getattr(found, name)[k]
        assert moved.minutes.all_squares[place] == found.minutes.all_squares[k]
        for name in ("wakes_s", "sleeps_s"):
            own = getattr(moved, name)[moved.lane == place]
            assert own.tolist() == getattr(found, name)[found.lane == k].tolist()


def test_a_lane_that_comes_once_has_no_gap() -> None:
    found = activity([(5, "a")], [], 10.0)
    assert found.longest_s[0] == -np.inf
    assert found.sleeps_s == pytest.approx([5.0])
