"""Earliest deadline first."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.deadlines import ttft_slo_s


class EDF:
    """Earliest deadline first: the earliest arrival + TTFT objective; `slo_ttft_s` for a request without one."""

    def __init__(self, slo_ttft_s: float = 1.0):
        self.slo_ttft_s = slo_ttft_s

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return requests["arrival_s"].to_numpy() + ttft_slo_s(requests, self.slo_ttft_s)
