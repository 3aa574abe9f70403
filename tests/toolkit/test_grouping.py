"""Rows are grouped exactly, also where the sort's packed keys collide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.grouping import SPREAD, grouped

UNSPREAD = np.uint64(pow(int(SPREAD), -1, 2**64))


@given(st.lists(st.integers(0, 5), max_size=40), st.booleans())
def test_groups_are_whole_and_in_row_order(names: list[int], colliding: bool) -> None:
    keys = np.array(names, dtype=np.uint64)
    if colliding:  # keys that differ only in the bits that the row number takes
        keys = keys * UNSPREAD
    groups = grouped(keys)
    assert sorted(groups.order) == list(range(len(names)))
    assert len(groups.sizes) == len(set(names))
    for begin, end in zip(groups.starts[:-1], groups.starts[1:], strict=True):
        rows = groups.order[begin:end]
        assert len(set(keys[rows])) == 1
        assert (np.diff(rows) > 0).all()
    assert (groups.place == np.concatenate([np.arange(n) for n in groups.sizes] or [np.array([])])).all()
