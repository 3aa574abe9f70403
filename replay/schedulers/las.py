"""Least attained service."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import SettingFailure
from toolkit.protocols import Curve, Preemption


class LAS:
    """Least attained service: fewest tokens produced so far first (foreground-background).

    A running request is displaced once it is more than `quantum` tokens ahead of one that waits.
    """

    curve = Curve(slope=1.0)

    def __init__(self, quantum: int = 1):
        if quantum < 0:
            raise SettingFailure(f"{quantum} is below 0", where="quantum")
        self.preemption = Preemption("rank", hysteresis=float(quantum))

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return np.zeros(len(requests))
