"""The step a clock can tell apart, and the unit of stamps that nothing explains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.clock import clock_step, infer_unit

RNG = np.random.default_rng(7)
POISSON = np.cumsum(RNG.exponential(1.0, 5_000))


@pytest.mark.parametrize(
    ("stamps", "step"),
    [
        (np.floor(POISSON).astype(np.int64), 1),  # whole seconds
        (np.floor(POISSON * 1e7).astype(np.int64) * 100, 100),  # 100 ns ticks
        (np.floor(POISSON), 1.0),  # the same clocks written as doubles
        (np.round(POISSON, 4), 1e-4),
        (19_440_110.0 + np.floor(POISSON), 1.0),
    ],
)
def test_the_step_is_what_all_gaps_share(stamps, step: float):
    assert clock_step(stamps) == pytest.approx(step, rel=1e-9)


def test_a_clock_read_every_three_seconds_or_so_has_that_step():
    edges = np.cumsum(RNG.integers(2_997, 3_002, 400))
    stamps = edges[np.searchsorted(edges, np.sort(RNG.uniform(0, edges[-1], 4_000)))]
    assert clock_step(stamps) == pytest.approx(3_000, rel=0.001)


def test_a_continuous_clock_shows_no_step():
    assert clock_step(POISSON) is None


def test_a_few_stamps_say_nothing():
    assert clock_step(np.array([0, 5, 5, 9])) is None
    assert clock_step(np.array([0.0])) is None


def test_bursts_on_a_fine_clock_are_not_a_coarse_clock():
    stamps = np.repeat(np.floor(POISSON[:500] * 1e6).astype(np.int64), 10)
    assert clock_step(stamps) == 1


@given(st.integers(1, 10**6), st.lists(st.integers(0, 10**6), min_size=5, max_size=50, unique=True))
def test_the_step_divides_every_gap_and_scales_with_the_unit(scale: int, ticks: list[int]):
    stamps = np.array(ticks, dtype=np.int64) * scale
    step = clock_step(stamps)
    assert step is not None
    assert not (np.diff(np.sort(stamps)) % int(step)).any()
    assert step % scale == 0


@pytest.mark.parametrize(
    ("first", "last", "rows", "whole", "unit"),
    [
        (1_700_000_000, 1_700_003_600, 100, True, "s"),
        (1_700_000_000_000, 1_700_003_600_000, 100, True, "ms"),
        (1_700_000_000_000_000, 1_700_003_600_000_000, 100, True, "us"),
        (1_700_000_000_000_000_000, 1_700_003_600_000_000_000, 100, True, "ns"),
        (0.0, 3_600_000.0, 100, False, "s"),
        (0, 3_536_999, 12_031, True, "ms"),
        (0, 5_269_000, 1_429_737, True, "s"),
    ],
)
def test_the_unit_is_guessed_from_epoch_fractions_or_rate(first, last, rows: int, whole: bool, unit: str):
    found, reason = infer_unit(first, last, rows, whole)
    assert found == unit
    assert reason.startswith("guessed: ")
