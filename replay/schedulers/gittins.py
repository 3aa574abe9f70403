"""The Gittins index policy."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.gittins_index import expected_until
from replay.schedulers.length_distributions import LengthDistributions
from toolkit.protocols import Curve, Preemption

LAST = 1e15  # what nobody is known to reach


class Gittins:
    """Least expected service per completion first, from the distribution of lengths: the best mean without predictions.

    `lengths` are those of the `trace`, of its first tenth (`train`), of what has ended (`online`), or of a file; told
    apart `by` columns joined with `+`, or none. Ages are looked at every `quantum` tokens, growing by `ratio`.
    """

    preemption = Preemption("rank")
    observe_every_s = 10.0

    def __init__(self, lengths: str = "train", by: str = "none", quantum: int = 16, ratio: float = 1.5):
        self.lengths = LengthDistributions(lengths, by, quantum, ratio)
        if lengths == "online":
            self.observe = self.lengths.observe  # looked up by name: else nothing is learned

    @property
    def curve(self) -> Curve:
        ends = self.lengths.edges[1:].astype(np.float64)
        rows = np.stack([expected_until(shares, ends) for shares in self.lengths.shares()])
        return Curve(boundaries=self.lengths.edges[1:].tolist(), offsets=np.where(np.isfinite(rows), rows, LAST))

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        self.lengths.learn(requests)
        return np.zeros(len(requests))

    def curve_row(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        return self.lengths.rows(requests)
