"""Prism's measures against counts by hand."""

import numpy as np
import polars as pl
import pytest

from toolkit.analysis.groups_prism import PRISM, Present, day_correlation, prism
from toolkit.analysis.lanes import Lanes


def present(arrival_s: list[float], model: list[str], active_s: float = 120.0) -> Present:
    frame = pl.DataFrame({"t": np.array(arrival_s, dtype=float), "m": model}).sort("t")
    lanes = Lanes.of(frame["m"], frame["t"].to_numpy())
    return Present.merged([Present.of(lanes, active_s, max(arrival_s))])


def row(arrival_s: list[float], model: list[str], active_s: float) -> dict[str, float]:
    found = prism(present(arrival_s, model, active_s))
    assert found["prism"].schema == PRISM
    return found["prism"].row(0, named=True)


def test_entries_and_exits_count_until_the_last_arrival() -> None:
    # a is active in [0, 10) and [50, 60), b in [5, 15) and [99, 109): b's last exit is after the last arrival.
    found = row([0, 5, 50, 99, 100], ["a", "b", "a", "b", "b"], 10)
    assert found["switches"] == 7
    assert found["switches_per_hour"] == pytest.approx(7 * 36)
    assert found["switches_per_hour_without_first"] == pytest.approx(6 * 36)
    assert found["mean_active_share"] == pytest.approx((10 + 10 + 10 + 1) / 100 / 2)


def test_the_window_is_open_on_the_left() -> None:
    """A request exactly a window after the last one finds the model active still: no exit, no entry."""
    assert row([0, 10, 100], ["a", "a", "b"], 10)["switches"] == 3
    assert row([0, 10.001, 100.0], ["a", "a", "b"], 10)["switches"] == 5


def test_changes_at_one_instant_are_one_switch() -> None:
    apart = row([0, 11, 100], ["a", "b", "c"], 10)["switches"]
    assert row([0, 10, 100], ["a", "b", "c"], 10)["switches"] == apart - 1


def test_who_is_there_most_of_the_time_is_persistent() -> None:
    times = [float(i) for i in range(101)] + [50.0]
    found = prism(present(times, ["always"] * 101 + ["once"], 5))
    kinds = dict(found["presence"].select("name", "persistence").iter_rows())
    assert kinds == {"always": "persistent", "once": "sporadic"}
    assert found["prism"]["persistent_models"][0] == 1


def test_days_that_repeat_correlate_and_others_do_not() -> None:
    rng = np.random.default_rng(1)
    morning = np.sort(rng.random(500)) * 20_000
    times = np.concatenate([morning, morning + 86_400, [172_800.0]])
    same = day_correlation(present(times.tolist(), ["a"] * len(times)))
    times = np.concatenate([morning, morning + 86_400 + 40_000, [172_800.0]])
    other = day_correlation(present(times.tolist(), ["a"] * len(times)))
    assert same[0] == pytest.approx(1)
    assert other[0] < 0.1
    assert np.isnan(day_correlation(present([0.0, 86_400.0], ["a", "a"]))[0])
