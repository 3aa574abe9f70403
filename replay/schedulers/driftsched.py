"""DriftSched's five policies over its token budgets (2606.02982): non-preemptive queues in front of the engine."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.drift_estimator import DriftEstimator
from toolkit.protocols import Lanes

TIERS = ("premium", "standard", "batch")
TIER_GAP_S = 1e9
AGING_S = 100.0  # a level is worth 1/0.01 s of waiting
CYCLE = (0,) * 5 + (1,) * 3 + (2,) * 2
Ranks = NDArray[np.float64]


class DriftSched:
    """What the five policies share: budgets estimated at arrival, corrected as requests end.

    `preset` paper or trace, `unit` tokens or words, `adaptive`, `words_per_token` and `by` are DriftEstimator's. What
    has ended is heard of every `feedback_s` seconds, never before it has.
    """

    def __init__(
        self,
        preset: str = "paper",
        unit: str = "tokens",
        adaptive: bool = True,
        words_per_token: float = 0.75,
        by: str = "model+tenant+prompt",
        feedback_s: float = 1.0,
    ):
        self.estimator = DriftEstimator(preset, unit, adaptive, words_per_token, by)
        self.observe_every_s = feedback_s
        self._level: NDArray[np.int64] = np.zeros(0, np.int64)

    def rank(self, requests: pl.DataFrame, now_s: float) -> Ranks:
        if not len(self._level):
            self._level = np.zeros(int(requests["request_id"].max() or 0) + 1, np.int64)  # type: ignore[arg-type]
            self._level[requests["request_id"].to_numpy()] = tier_level(requests)
        return self.key(requests, self.estimator.budget(requests))

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> bool:
        """Learn, for what has arrived since the last time and what follows: estimates stand."""
        self.estimator.learn(outcomes)
        return False

    def predicted(self, request_ids: NDArray[np.int64]) -> Ranks:
        return self.estimator.predicted(request_ids)

    def level(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        """The requests' tiers, 0 the highest."""
        levels: NDArray[np.int64] = self._level[requests["request_id"].to_numpy()]
        return levels

    def key(self, requests: pl.DataFrame, budget: Ranks) -> Ranks:
        """What the policy ranks by; FIFO until it says otherwise."""
        return requests["arrival_s"].to_numpy()


def tier_level(requests: pl.DataFrame) -> NDArray[np.int64]:
    """0 for premium, 1 for standard, 2 for batch; an unknown tier is standard."""
    levels = {tier: level for level, tier in enumerate(TIERS)}
    return requests["tier"].replace_strict(levels, default=1, return_dtype=pl.Int64).to_numpy()


class FIFO(DriftSched):
    """DriftSched's FIFO: the oldest arrival of all tiers."""


class StrictPriority(DriftSched):
    """DriftSched's Priority: premium before standard before batch, FIFO within a tier."""

    def key(self, requests: pl.DataFrame, budget: Ranks) -> Ranks:
        key: Ranks = requests["arrival_s"].to_numpy() + TIER_GAP_S * self.level(requests)
        return key


class Weighted(DriftSched):
    """DriftSched's Weighted: turns of ten, 5 premium, 3 standard, 2 batch; an empty tier's turns are skipped."""

    lanes = Lanes(cycle=CYCLE)

    def lane(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        return tier_level(requests)


class ShortestBudget(DriftSched):
    """DriftSched's SJF: the smallest token budget, prompt and estimated output, of all tiers."""

    def key(self, requests: pl.DataFrame, budget: Ranks) -> Ranks:
        return budget


class Aging(DriftSched):
    """DriftSched's Aging: tiers, of which one is made up for by `patience_s` of waiting.

    Score = level − wait/100 s, smallest first; all scores fall alike, so it is the order of arrival + 100 s·level.
    """

    def __init__(self, patience_s: float = AGING_S, **estimator: Any):
        super().__init__(**estimator)
        self.patience_s = patience_s

    def key(self, requests: pl.DataFrame, budget: Ranks) -> Ranks:
        key: Ranks = requests["arrival_s"].to_numpy() + self.patience_s * self.level(requests)
        return key
