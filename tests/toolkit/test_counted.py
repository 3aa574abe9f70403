"""Samples as distinct values and their counts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.counted import Counted

PARTS = st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.0, 1e9]), max_size=20), max_size=5)


@given(PARTS)
def test_merged_samples_are_the_sample_of_all(parts: list[list[float]]):
    merged = Counted.merged([Counted.of(np.array(part)) for part in parts])
    whole = Counted.of(np.array([value for part in parts for value in part]))
    assert merged.values.tolist() == whole.values.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.counts.dtype == np.int64
