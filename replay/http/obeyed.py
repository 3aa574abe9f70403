"""What was intended, held against what the engine did: whether it began requests in the order of their ranks."""

import heapq
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.http.orders import Orders

F64 = NDArray[np.float64]
NEAR_S = 0.02  # what begins this close together may have begun in one step


def compared(outcomes: pl.DataFrame, starts: pl.DataFrame, orders: Orders, endpoint: NDArray[np.int64]) -> Any:
    """How well each endpoint kept to the ranks; null where ranks are not all that decides, or change on the way.

    A request counts from when it was sent to its first token, or, where the engine told (`starts`: request_id, came_s,
    start_s), from when it came to when it first ran.
    """
    if orders.lanes["count"] > 1 or "after_s" in orders.columns:
        return None
    known = outcomes.join(starts, on="request_id", how="left").with_columns(
        came=pl.coalesce("came_s", "sent_s"), begun=pl.coalesce("start_s_right", "first_token_s")
    )
    known = known.filter(pl.col("came").is_not_null() & pl.col("begun").is_not_null())
    ids = known["request_id"].to_numpy()
    rank = orders.columns["rank"][ids] + orders.columns["rise"][ids] * known["arrival_s"].to_numpy()
    came_s, begun_s = known["came"].to_numpy(), known["begun"].to_numpy()
    counted = np.zeros(2, np.int64)
    for number in np.unique(endpoint[ids]):
        own = endpoint[ids] == number
        counted += kept(rank[own], came_s[own], begun_s[own])
    return {"choices": int(counted[0]), "kept": int(counted[1])}


def kept(rank: F64, came_s: F64, begun_s: F64) -> tuple[int, int]:
    """How often a request was begun while others waited, and how often none of these ranked before it."""
    coming = np.argsort(came_s, kind="stable")
    waiting: list[tuple[float, int]] = []
    met = choices = first = 0
    for n in np.argsort(begun_s, kind="stable"):
        while met < len(coming) and came_s[coming[met]] < begun_s[n] - NEAR_S:
            heapq.heappush(waiting, (float(rank[coming[met]]), int(coming[met])))
            met += 1
        while waiting and begun_s[waiting[0][1]] <= begun_s[n] + NEAR_S:
            heapq.heappop(waiting)
        if waiting:
            choices += 1
            first += bool(rank[n] <= waiting[0][0])
    return choices, first


def noted(found: dict[str, Any] | None) -> list[str]:
    """The same for a reader, where there was anything to choose."""
    if not found or not found["choices"]:
        return []
    share = found["kept"] / found["choices"]
    return [f"of {found['choices']:,} requests begun while others waited, {share:.1%} were the first by rank"]
