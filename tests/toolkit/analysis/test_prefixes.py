"""Prefix reuse against naive caches."""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from toolkit.analysis.prefixes import Prefixes
from toolkit.analysis.stack_distances import hits_by_distance
from toolkit.analysis.whole import Whole
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo

prompts = st.lists(st.lists(st.integers(0, 12), max_size=6), min_size=1, max_size=30).filter(any)


def run(blocks: list[list[int]], *, scope: str | None = None, **columns: object) -> dict[str, pl.DataFrame]:
    raw = pl.DataFrame({"prefix_blocks": pl.Series(blocks, dtype=pl.List(pl.UInt64)), **columns})
    frame = conform(raw, TRACE, source="test")
    info = TraceInfo("t", "t", "", frame.height, frame.height, block_tokens=16, block_scope=scope)
    return Prefixes().run(frame.select(Prefixes.columns), info)


def lru_hits(references: list[int], size: int) -> int:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for block in references:
        hits += block in cache
        cache[block] = None
        cache.move_to_end(block)
        if len(cache) > size:
            cache.popitem(last=False)
    return hits


@settings(deadline=None)  # the first call compiles
@given(prompts)
def test_every_lru_size_hits_what_a_simulated_one_hits(prompts: list[list[int]]) -> None:
    references = [block for prompt in prompts for block in prompt]
    for size, hits in run(prompts)["cache"].select("cache_blocks", "block_hits").iter_rows():
        assert hits == lru_hits(references, size)


@settings(deadline=None)  # the first call compiles
@given(prompts)
def test_infinite_caches_hit_what_was_seen(prompts: list[list[int]]) -> None:
    row = run(prompts)["summary"].row(0, named=True)
    seen: set[int] = set()
    hits = prefix_hits = 0
    for prompt in prompts:
        before, unbroken = set(seen), True
        for block in prompt:
            hits += block in seen
            seen.add(block)
            unbroken = unbroken and block in before
            prefix_hits += unbroken
    assert (row["block_hits"], row["distinct_blocks"]) == (hits, len(seen))
    # A block that the same prompt repeats has its last use there, and is no prefix that a cache could hold.
    assert row["prefix_hits"] <= prefix_hits
    if all(len(set(prompt)) == len(prompt) for prompt in prompts):
        assert row["prefix_hits"] == prefix_hits


def test_only_the_last_block_is_partial() -> None:
    row = run([[1, 2], [1, 2, 3]], prompt_tokens=[20, 40])["summary"].row(0, named=True)
    assert row["tokens"] == 60
    assert row["token_hit_ratio"] == (16 + 16) / 60
    assert row["block_hit_ratio"] == 2 / 5


def test_equal_hashes_of_two_sessions_differ_in_session_scope() -> None:
    blocks, sessions = [[1, 2], [1, 2], [1, 2]], ["a", "b", "a"]
    assert run(blocks, session_id=sessions)["summary"]["block_hits"][0] == 4
    scoped = run(blocks, scope="session", session_id=sessions)["summary"].row(0, named=True)
    assert (scoped["block_hits"], scoped["distinct_blocks"]) == (2, 4)


def test_reuse_and_recency() -> None:
    tables = run([[1], [1, 2], [1]], arrival_s=[0.0, 4.0, 14.0])
    assert tables["reuse"].rows() == [(1, 1), (3, 1)]
    assert tables["recency"].filter(pl.col("p") == 0.5)["age_s"][0] == 7
    assert run([[1], [1]])["recency"].is_empty()


@settings(deadline=None)  # the first call compiles
@given(prompts, st.lists(st.integers(0, 30), max_size=4), st.integers(0, 1_000), st.booleans())
def test_stretches_joined_are_the_whole(prompts: list[list[int]], cuts: list[int], seed: int, leftmost: bool) -> None:
    rng, n = np.random.default_rng(seed), len(prompts)
    raw = {
        "prefix_blocks": pl.Series(prompts, dtype=pl.List(pl.UInt64)),
        "arrival_s": np.cumsum(rng.integers(0, 3, n)).astype(np.float64),
        "prompt_tokens": [max(0, 16 * len(p) - int(rng.integers(0, 20))) for p in prompts],
    }
    frame = conform(pl.DataFrame(raw), TRACE, source="test").select(Prefixes.columns)
    info, asked = TraceInfo("t", "t", "", n, n, block_tokens=16), Prefixes()
    whole = Whole.of(frame, info)
    edges = sorted({0, n, *(min(cut, n) for cut in cuts)})
    found = [asked.partial(frame[a:b], whole) for a, b in pairwise(edges)]
    while len(found) > 1:
        at = 0 if leftmost else int(rng.integers(0, len(found) - 1))
        found[at : at + 2] = [asked.joined(*found[at : at + 2])]
    expected = asked.run(frame, info)
    for name, table in asked.finish(found, whole).items():
        assert_frame_equal(table, expected[name], check_exact=True)


def previous_of(blocks: list[int]) -> np.ndarray:
    last: dict[int, int] = {}
    return np.array([(last.get(b, -1), last.__setitem__(b, i))[0] for i, b in enumerate(blocks)], dtype=np.int32)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 70)), min_size=1, max_size=12))
def test_long_runs_that_repeat_are_exact(runs: list[tuple[int, int]]) -> None:
    blocks = [block for start, length in runs for block in range(start, start + length)]
    distinct = len(set(blocks))
    hits = np.cumsum(hits_by_distance(previous_of(blocks), distinct)[1:])
    for size in (1, 2, distinct // 2, distinct - 1, distinct):
        if 0 < size <= distinct:
            assert hits[size - 1] == lru_hits(blocks, size)


def test_interpreted_distances_are_the_compiled_ones() -> None:
    blocks = np.random.default_rng(1).integers(0, 50, 600).tolist() + list(range(100)) * 2
    previous, distinct = previous_of(blocks), len(set(blocks))
    code = (
        "import numpy as np; from toolkit.analysis.stack_distances import hits_by_distance;"
        f"print(hits_by_distance(np.array({previous.tolist()}, dtype=np.int32), {distinct}).tolist())"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == hits_by_distance(previous, distinct).tolist()
