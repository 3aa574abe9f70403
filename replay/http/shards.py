"""Who sends what: sessions whole, and what shares a prefix together as far as that leaves everybody an even share."""

import heapq

import numpy as np
import polars as pl
from numpy.typing import NDArray

I64 = NDArray[np.int64]
DEALT_ONE_BY_ONE = 4096  # units, the largest ones; the rest go round


def owners(trace: pl.DataFrame, root: I64, workers: int) -> I64:
    """The worker of each request; `root` is the request with which its chain of waits begins."""
    first = _session_roots(trace, root)
    unit = _by_prefix(trace, first)
    sizes = np.bincount(unit, minlength=len(trace))
    split = sizes[unit] > len(trace) / workers  # a prefix that all share keeps nobody together
    unit = np.where(split, first, unit)
    return _dealt(unit, workers)


def _session_roots(trace: pl.DataFrame, root: I64) -> I64:
    """The first request of each one's session, or its own root outside any."""
    session = trace["session_id"]
    if session.null_count() == len(session):
        return root
    placed = trace.select("session_id").with_row_index("place")
    named = placed.select(
        first=pl.when(pl.col("session_id").is_not_null()).then(pl.col("place").min().over("session_id"))
    )
    first = named["first"].cast(pl.Int64).fill_null(-1).to_numpy()
    found = np.where(first >= 0, first, root)
    return found[root]


def _by_prefix(trace: pl.DataFrame, first: I64) -> I64:
    """For each request the earliest one whose prompt begins with the same block as that of its session's first."""
    begins = trace.select(block=pl.col("prefix_blocks").list.first())["block"]
    if begins.null_count() == len(begins):
        return first
    placed = pl.DataFrame({"block": begins}).with_row_index("place")
    same = pl.col("place").min().over("block")
    earliest = placed.select(pl.when(pl.col("block").is_null()).then("place").otherwise(same).cast(pl.Int64))
    found: I64 = earliest.to_series().to_numpy()[first]
    return found


def _dealt(unit: I64, workers: int) -> I64:
    """The largest units first, each to whoever has least; ties in order."""
    names, place, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    owner = np.zeros(len(names), np.int64)
    load = [(0, k) for k in range(workers)]
    for n in order[:DEALT_ONE_BY_ONE]:
        least, k = heapq.heappop(load)
        owner[n] = k
        heapq.heappush(load, (least + int(sizes[n]), k))
    rest = order[DEALT_ONE_BY_ONE:]
    owner[rest] = np.arange(len(rest)) % workers
    found: I64 = owner[place]
    return found
