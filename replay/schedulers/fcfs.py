"""First come, first served."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


class FCFS:
    """First come, first served: the order of arrival, and the baseline of every table."""

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        arrival: NDArray[Any] = requests["arrival_s"].to_numpy()
        return arrival
