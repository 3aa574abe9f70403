"""Shortest job first."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.size_based import SizeBased


class SJF(SizeBased):
    """Shortest job first: fewest believed output tokens first, without displacing what runs."""

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return self.output_tokens(requests)
