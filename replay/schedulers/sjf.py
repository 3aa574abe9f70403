"""Shortest job first."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.lengths import believed_output_tokens, checked


class SJF:
    """Shortest job first: fewest output tokens first, without displacing what runs (LTR ranks the same way)."""

    def __init__(self, lengths: str = "oracle"):
        self.lengths = checked(lengths)

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return believed_output_tokens(requests, self.lengths)
