"""Shortest remaining processing time."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.size_based import SizeBased
from toolkit.protocols import Curve, Preemption


class SRPT(SizeBased):
    """Shortest remaining processing time: fewest believed output tokens left first, displacing what has more left."""

    curve = Curve(slope=-1.0)
    preemption = Preemption("rank")

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return self.output_tokens(requests)
