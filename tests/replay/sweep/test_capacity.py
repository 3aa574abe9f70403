"""Capacity: what is concluded from a table, and a search of a real sweep."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.sweep.capacity import Combination, capacity_row, estimates, next_value, rungs
from replay.sweep.spec import Search
from toolkit.schema import SWEEP, conform

GPUS = Search("gpus", 1, 16, attainment=0.9)
LOADS = Search("load", 0.5, 8, attainment=0.9, tolerance=0.1)
FEWEST = Combination("static", "fcfs", None, 1.0, None)
HIGHEST = Combination("static", "fcfs", 4, None, None)


def table(at: Combination, attainments: dict[float, list[float | None]]) -> pl.DataFrame:
    """A sweep's table: attainment of each seed by what is searched over; null for a point that failed."""
    rows = [
        {**at.points(value, [seed])[0].axes(), "attainment": share, "with_slo": 1000, "utilisation": 0.5}
        | {"error": "does not fit" if share is None else None}
        for value, shares in attainments.items()
        for seed, share in enumerate(shares)
    ]
    return conform(pl.DataFrame(rows, infer_schema_length=None), SWEEP, source="test")


def searched(at: Combination, search: Search, attainment_of: object) -> tuple[dict[str, object], dict[float, object]]:
    """A search to its end: the row, and all that was tried."""
    values, tried = rungs(search), {}
    while True:
        known = estimates(table(at, tried), at, search, values) if tried else {}
        value = next_value(known, search, values)
        if value is None:
            return capacity_row(at, known, search, values), tried
        tried[value] = attainment_of(value)  # type: ignore[operator]


def curve(middle: float, noise: float = 0.0, seeds: int = 3, rising: bool = True, seed: int = 0) -> object:
    """Attainment that crosses 0.9 at `middle`, with some noise a seed."""
    errors = np.random.default_rng(seed).normal(0, noise, seeds)

    def at(value: float) -> list[float]:
        over = (value - middle) / middle if rising else (middle - value) / middle
        return list(np.clip(0.9 + 0.3 * over + errors, 0, 1))

    return at


@settings(max_examples=20, deadline=None)
@given(st.floats(0.6, 20), st.floats(0, 0.02), st.integers(0, 99))
def test_the_fewest_gpus_of_a_monotone_curve_are_found_within_their_interval(
    middle: float, noise: float, seed: int
) -> None:
    attainment = curve(middle, noise, seed=seed)
    row, tried = searched(FEWEST, GPUS, attainment)
    means = {n: float(np.mean(attainment(float(n)))) for n in range(1, 17)}  # type: ignore[operator]
    fewest = next((n for n, mean in means.items() if mean >= 0.9), None)
    assert row["capacity"] == fewest
    assert row["monotone"]
    assert len(tried) <= 13
    if fewest is not None:
        assert row["capacity_low"] <= fewest  # type: ignore[operator]
        assert row["capacity_high"] is None or row["capacity_high"] >= fewest  # type: ignore[operator]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.6, 7.5), st.floats(0, 0.02), st.integers(0, 99))
def test_the_highest_load_is_found_to_the_tolerance(middle: float, noise: float, seed: int) -> None:
    attainment = curve(middle, noise, rising=False, seed=seed)
    row, _ = searched(HIGHEST, LOADS, attainment)
    found = row["capacity"]
    if found is None:
        assert np.mean(attainment(0.5)) < 0.9  # type: ignore[operator]
        return
    assert np.mean(attainment(found)) >= 0.9  # type: ignore[operator]
    assert found == 8 or np.mean(attainment(found * 1.101)) < 0.9  # type: ignore[operator]
    assert (row["capacity_low"] or 0) <= found <= row["capacity_high"]  # type: ignore[operator]


def test_loads_are_evenly_apart_and_the_hardest_come_first() -> None:
    values = rungs(LOADS)
    assert (values[0], values[-1]) == (8.0, 0.5)
    ratios = [a / b for a, b in pairwise(values)]
    assert max(ratios) <= 1.101
    assert rungs(Search("load", 2, 2)) == [2.0]
    assert rungs(Search("gpus", 1, 3)) == [1.0, 2.0, 3.0]


def test_what_does_not_fit_is_not_enough_and_is_said() -> None:
    row, _ = searched(FEWEST, GPUS, lambda n: [None] * 3 if n < 5 else [0.95, 0.96, 0.97])
    assert row["capacity"] == 5
    assert "at 4 GPUs no result (does not fit)" in str(row["said"])


def test_nothing_that_was_allowed_is_enough() -> None:
    row, tried = searched(FEWEST, GPUS, lambda n: [0.5, 0.5, 0.53])
    assert row["capacity"] is None
    assert row["capacity_low"] is None
    assert list(tried) == [16.0]
    assert str(row["said"]) == "Not even 16 GPUs: 51.00 % (46.70 to 55.30)."


def test_a_dent_is_said() -> None:
    shares = {5.0: 0.95, 6.0: 0.85}
    row, _ = searched(FEWEST, GPUS, lambda n: [shares.get(n, 0.0 if n < 5 else 0.99)] * 2)
    assert row["capacity"] == 5
    assert not row["monotone"]
    assert "Not monotone: 6 GPUs serve worse" in str(row["said"])


def test_with_one_seed_the_interval_is_wilsons_over_requests() -> None:
    row, _ = searched(FEWEST, GPUS, lambda n: [0.905 if n >= 8 else 0.7])
    assert row["capacity"] == 8
    assert row["attainment_low"] == pytest.approx(0.8853, abs=1e-3)
    assert row["attainment_high"] == pytest.approx(0.9217, abs=1e-3)
    assert row["capacity_high"] is None
    assert "nothing tried surely will do" in str(row["said"])
