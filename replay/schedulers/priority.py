"""Strict priority between tiers."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.protocols import Preemption

TIER_GAP_S = 1e9  # more than any trace lasts, so that no wait makes up for a tier


class Priority:
    """Strict priority: tiers in `order` (highest first, then unlisted ones by name, then none), FCFS within a tier.

    A tier that is first met later in a replay comes after all of these. With `displace` a waiting request takes the
    place of a running one of a lower tier.
    """

    def __init__(self, order: str = "premium>standard>batch", displace: bool = False):
        listed = filter(None, (tier.strip() for tier in order.split(">")))
        self._levels: dict[str | None, int] = {tier: level for level, tier in enumerate(dict.fromkeys(listed))}
        self.preemption = Preemption("rank" if displace else "memory")

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        for tier in (*requests["tier"].drop_nulls().unique().sort(), None):
            self._levels.setdefault(tier, len(self._levels))
        level = requests["tier"].replace_strict(self._levels, return_dtype=pl.Float64)
        ranks: NDArray[Any] = (level * TIER_GAP_S + requests["arrival_s"]).to_numpy()
        return ranks
