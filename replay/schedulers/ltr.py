"""LTR: shortest first by a learned ranking, with a limit to starvation."""

from typing import Any

import polars as pl

from replay.schedulers.sjf import SJF
from toolkit.protocols import Patience, Preemption

BEFORE_ALL = -1e12  # seconds or tokens: more than any rank


class LTR(SJF):
    """Shortest first among all that run or wait; who has stood still for `starve_s` comes first, for `period` tokens.

    LTR+ is UniBoost's baseline (2606.18431, set-up), with exact lengths. The order, the displacement and the promotion
    are those of LTR's scheduler; the two constants are ours, for the paper names none.
    """

    preemption = Preemption("rank")

    def __init__(self, starve_s: float = 10.0, period: int = 64, **predictor: Any):
        super().__init__(**predictor)
        self.starve_s, self.period = starve_s, period

    def patience(self, requests: pl.DataFrame) -> Patience:
        return Patience(self.starve_s, BEFORE_ALL, since="place", hold_tokens=self.period)
