"""LTR: shortest first by a learned ranking, with a limit to starvation."""

from typing import Any

import numpy as np
import polars as pl

from replay.schedulers.sjf import SJF
from toolkit.protocols import Patience, Preemption, ServiceCosts

STARVED_STEPS = 200
BEFORE_ALL = -1e12  # seconds or tokens: more than any rank


class LTR(SJF):
    """Shortest first among all that run or wait; who has stood still for `starve_s` comes first, for `period` tokens.

    LTR+ is UniBoost's baseline (2606.18431, set-up), with exact lengths. The order, the displacement and the promotion
    are those of LTR's scheduler, and the two constants those of its serving scripts: 200 (full) steps and 10.
    """

    preemption = Preemption("rank")

    def __init__(self, starve_s: float | None = None, period: int = 10, **predictor: Any):
        super().__init__(**predictor)
        self.starve_s, self.period = starve_s, period

    def serve_on(self, costs: ServiceCosts) -> None:
        if self.starve_s is None:
            self.starve_s = STARVED_STEPS * costs.step_s

    def patience(self, requests: pl.DataFrame) -> Patience:
        after_s = np.inf if self.starve_s is None else self.starve_s
        return Patience(after_s, BEFORE_ALL, since="place", hold_tokens=self.period)
