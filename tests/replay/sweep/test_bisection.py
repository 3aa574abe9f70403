"""Bisection finds the first rung that is good enough, by trying few, and notices when there is none such."""

from collections.abc import Callable
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from replay.sweep.bisection import first_good, monotone, next_rung


def searched(good: Callable[[int], bool], rungs: int, known: dict[int, bool] | None = None) -> dict[int, bool]:
    """Everything that a search tries."""
    tried = dict(known or {})
    while (rung := next_rung(tried, rungs, look_around=True)) is not None:
        assert rung not in tried
        assert 0 <= rung < rungs
        tried[rung] = good(rung)
    return tried


@given(st.integers(1, 500), st.integers(0, 500), st.sets(st.integers(0, 499), max_size=5))
def test_a_monotone_threshold_is_found_whatever_was_tried_before(rungs: int, threshold: int, before: set[int]) -> None:
    known = {r: r >= threshold for r in before if r < rungs}
    tried = searched(lambda r: r >= threshold, rungs, known)
    assert first_good(tried) == (threshold if threshold < rungs else None)
    assert monotone(tried)
    assert len(tried) - len(known) <= ceil(log2(rungs + 1)) + 4


@given(st.integers(4, 200), st.data())
def test_a_dent_beside_the_answer_is_noticed(rungs: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, rungs - 3))
    tried = searched(lambda r: r >= threshold and r != threshold + 1, rungs)
    assert not monotone(tried)


@given(st.integers(1, 60), st.lists(st.booleans(), min_size=60, max_size=60))
def test_whatever_the_function_the_answer_is_good_and_the_one_before_is_not(rungs: int, good: list[bool]) -> None:
    tried = searched(lambda r: good[r], rungs)
    first = first_good(tried)
    if good[rungs - 1]:
        assert first is not None
        assert good[first]
        assert first == 0 or not good[first - 1]
