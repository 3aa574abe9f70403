"""Windows of time: looking up edges and looking up times agree."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.analysis.windows import occupied, window_of

STEPS = st.sampled_from([0.1, 0.3, 1.0, 60.0])


@given(STEPS, st.lists(st.integers(0, 400), min_size=1, max_size=300), st.integers(1, 12), st.integers(1, 50))
def test_few_windows_hold_what_their_times_say(window_s: float, tenths: list[int], windows: int, repeats: int):
    """Times on edges, and one rounding away from them, too."""
    edge_s = np.repeat(np.array(sorted(tenths)) * (window_s / 10), repeats)
    time_s = np.sort(np.concatenate([edge_s, np.nextafter(edge_s, np.inf), np.maximum(np.nextafter(edge_s, -1), 0)]))
    numbers, counts = np.unique(window_of(time_s, window_s), return_counts=True)
    found = occupied(time_s, window_s, windows)
    assert found[0].tolist() == numbers[numbers < windows].tolist()
    assert found[1].tolist() == counts[numbers < windows].tolist()
