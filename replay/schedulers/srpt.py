"""Shortest remaining processing time."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.lengths import believed_output_tokens, checked
from toolkit.protocols import Curve, Preemption


class SRPT:
    """Shortest remaining processing time: fewest output tokens left first, displacing what has more left.

    `hold_share` is TRAIL's limit: a request that has produced this share of its output keeps its place.
    """

    curve = Curve(slope=-1.0)

    def __init__(self, lengths: str = "oracle", hold_share: float = 1.0):
        self.lengths = checked(lengths)
        self.preemption = Preemption("rank", hold_share=hold_share)

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return believed_output_tokens(requests, self.lengths)
