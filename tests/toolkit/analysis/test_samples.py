"""Samples of seconds: near what they were, and the same however they are cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.analysis.samples import Sample, rounded

seconds = st.floats(-1e9, 1e9).filter(lambda s: s == 0 or abs(s) > 1e-9)


@given(st.lists(seconds, min_size=1))
def test_a_rounded_value_is_near_and_keeps_its_side_of_zero(values: list[float]) -> None:
    given = np.array(values)
    found = rounded(given)
    assert (np.abs(found - given) <= np.abs(given) / 4096).all()
    assert np.array_equal(rounded(-given), -found)
    assert np.array_equal(np.sign(found), np.sign(given))


@given(st.lists(seconds, min_size=1), st.lists(seconds), st.booleans())
def test_parts_together_are_the_whole(one: list[float], other: list[float], exact: bool) -> None:
    parts = [Sample.of(np.array(values), exact=exact) for values in (one, other)]
    whole, merged = Sample.of(np.array(one + other), exact=exact).counted, Sample.merged(parts).counted
    assert np.array_equal(whole.values, merged.values)
    assert np.array_equal(whole.counts, merged.counts)
    assert (whole.values[0], whole.values[-1]) == (min(one + other), max(one + other))
