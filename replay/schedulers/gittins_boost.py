"""The Gittins boost: tails without predictions, from the distribution of lengths."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.boosted import Boosted
from replay.schedulers.gittins_index import gittins_boost
from replay.schedulers.length_distributions import LengthDistributions
from toolkit.protocols import Curve, Preemption


class GittinsBoost(Boosted):
    """Arrival less the boost that the distribution of lengths gives a request of its age: Gittins with γ below 0.

    Harlev, Yu and Scully, SIGMETRICS 2025; with a known size it is the γ-boost. `lengths`, `by`, `quantum` and `ratio`
    as for gittins; the rest as for uniboost.
    """

    observe_every_s = 10.0

    def __init__(
        self,
        gamma: float | None = None,
        lengths: str = "train",
        by: str = "none",
        quantum: int = 16,
        ratio: float = 1.5,
        alpha_prefill: float | None = None,
        alpha_decode: float | None = None,
    ):
        super().__init__(gamma, alpha_prefill, alpha_decode)
        self.lengths = LengthDistributions(lengths, by, quantum, ratio)
        if lengths == "online":
            self.observe = self.lengths.observe  # looked up by name: else nothing is learned

    @property
    def preemption(self) -> Preemption:
        """A minimum run to the next age; without boosts, FCFS, there is nothing to guard against."""
        return Preemption("rank", min_run=not np.isinf(self.gamma))

    @property
    def curve(self) -> Curve:
        ends_s = self.lengths.edges[1:].astype(np.float64) * self.costs.decode_s_per_token
        rows = [-gittins_boost(shares, ends_s, self.gamma) for shares in self.lengths.shares()]
        return Curve(boundaries=self.lengths.edges[1:].tolist(), offsets=np.stack(rows))

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        self.learn(requests)
        self.lengths.learn(requests)
        return requests["arrival_s"].to_numpy()

    def curve_row(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        return self.lengths.rows(requests)
