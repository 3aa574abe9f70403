"""Closed loops: which turns wait for the turn before them, and what their shared text is."""

import numpy as np
import polars as pl

from replay.simulation.horizon import FAR_S
from replay.simulation.state import I32, I64, NONE, PS


def think_times(trace: pl.DataFrame) -> I64:
    """Picoseconds a request waits after its parent ends; -1 where it arrives by the trace's clock."""
    waits = pl.when(pl.col("parent_id").is_not_null()).then(pl.col("think_s").clip(upper_bound=FAR_S) * PS).round()
    return trace.select(waits.cast(pl.Int64).fill_null(-1)).to_series().to_numpy().copy()


def children(trace: pl.DataFrame, think: I64) -> tuple[I32, I32]:
    """The waiting turns of each request as a list: (its first child, the next child of the same parent)."""
    first = np.full(len(trace), NONE, np.int32)
    following = np.full(len(trace), NONE, np.int32)
    parent = trace["parent_id"].fill_null(NONE).to_numpy()
    for r in np.flatnonzero(think >= 0)[::-1]:
        following[r] = first[parent[r]]
        first[parent[r]] = r
    return first, following


def prefix_lists(trace: pl.DataFrame, hash_tokens: int) -> pl.Series:
    """The shared blocks each request leaves in the cache: those its prompt fills, and those its answer fills.

    Only the next turn tells what the answer's blocks are called: where its blocks begin with this request's, as many
    of them as this request's prompt and answer fill are this request's too.
    """
    own = pl.col("prefix_blocks").list.head(pl.col("prompt_tokens") // hash_tokens)
    frame = trace.select("request_id", "parent_id", "prompt_tokens", "output_tokens", "prefix_blocks", own=own)
    turns = frame.filter(pl.col("parent_id").is_not_null()).unique("parent_id", keep="first")
    turns = turns.select(request_id="parent_id", following="prefix_blocks")
    joined = frame.join(turns, on="request_id", how="left", maintain_order="left")
    filled = pl.col("following").list.head((pl.col("prompt_tokens") + pl.col("output_tokens") - 1) // hash_tokens)
    extends = pl.col("following").list.head(pl.col("own").list.len()) == pl.col("own")
    return joined.select(pl.when(extends).then(filled).otherwise("own")).to_series()
