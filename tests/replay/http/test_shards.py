"""Sharding keeps sessions whole, prefixes together, and shares even."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.http.shards import owners


def trace(sessions: list[str | None], blocks: list[list[int]]) -> pl.DataFrame:
    known = {"session_id": pl.String, "prefix_blocks": pl.List(pl.UInt64)}
    return pl.DataFrame({"session_id": sessions, "prefix_blocks": blocks}, schema=known)


@settings(max_examples=30)
@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from([None, *"abcdef"]), st.integers(0, 12)), min_size=1))
def test_sessions_are_whole_and_everybody_has_an_even_share(workers: int, given_rows: list[tuple]) -> None:
    sessions = [name for name, _ in given_rows]
    root = np.arange(len(sessions))
    owner = owners(trace(sessions, [[] for _ in sessions]), root, workers)
    assert set(owner.tolist()) <= set(range(workers))
    for name in set(sessions) - {None}:
        assert len({int(o) for o, s in zip(owner, sessions, strict=True) if s == name}) == 1
    counts = np.bincount(owner, minlength=workers)
    largest = max([sessions.count(name) for name in set(sessions) - {None}], default=1)
    assert counts.max() - counts.min() <= largest


def test_chains_of_waits_stay_together() -> None:
    root = np.array([0, 1, 0, 1, 4])
    owner = owners(trace([None] * 5, [[]] * 5), root, 2)
    assert owner[0] == owner[2]
    assert owner[1] == owner[3]
    assert owner[0] != owner[1]


def test_prefixes_stay_together_unless_all_share_them() -> None:
    blocks = [[7, 1], [8], [7, 2], [9], [8, 3], [9, 9]]
    owner = owners(trace([None] * 6, blocks), np.arange(6), 3)
    assert owner[0] == owner[2]
    assert owner[1] == owner[4]
    assert owner[3] == owner[5]
    assert sorted(np.bincount(owner).tolist()) == [2, 2, 2]
    shared = owners(trace([None] * 6, [[7, n] for n in range(6)]), np.arange(6), 3)
    assert np.bincount(shared).tolist() == [2, 2, 2]
