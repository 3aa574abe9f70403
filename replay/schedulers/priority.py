"""Strict priority between tiers."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.protocols import Preemption

TIER_GAP_S = 1e9  # more than any trace lasts, so that no wait makes up for a tier


class Priority:
    """Strict priority: tiers in `order` (highest first, then unlisted ones by name, then none), FCFS within a tier.

    With `displace` a waiting request takes the place of a running one of a lower tier.
    """

    def __init__(self, order: str = "premium>standard>batch", displace: bool = False):
        self.tiers = [tier.strip() for tier in order.split(">") if tier.strip()]
        self.preemption = Preemption("rank" if displace else "memory")

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        present = requests["tier"].drop_nulls().unique().sort().to_list()
        tiers = [*self.tiers, *(tier for tier in present if tier not in self.tiers)]
        level = pl.col("tier").replace_strict(
            {t: i for i, t in enumerate(tiers)}, default=len(tiers), return_dtype=pl.Float64
        )
        ranks: NDArray[Any] = requests.select(level * TIER_GAP_S + pl.col("arrival_s")).to_series().to_numpy()
        return ranks
