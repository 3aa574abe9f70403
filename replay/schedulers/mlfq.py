"""Multi-level feedback queue."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import SettingFailure
from toolkit.protocols import Curve, Patience, Preemption, ServiceCosts

LEVEL_GAP = 1e9  # seconds: no wait makes up for a level
BEFORE_ALL = -1e15
MOST_TOKENS = 2**24


class MLFQ:
    """Multi-level feedback queue: each `levels` deeper after `quantum_s`, twice that, … of running; FCFS in a level.

    Who has stood still for `starve_s` comes first, for `period` tokens, and goes back to its level. MLFQ+ of UniBoost
    (2606.18431, set-up), with vllm-ltr's constants; there the starved, looked for every `period` steps, start over at
    the first level instead. A quantum is at least one token.
    """

    preemption = Preemption("rank")

    def __init__(self, quantum_s: float = 0.010, starve_s: float = 3.0, levels: int = 20, period: int = 100):
        if quantum_s <= 0 or levels < 1:
            raise SettingFailure(f"quantum_s={quantum_s:g}, levels={levels}", hint="quantum_s > 0, levels ≥ 1")
        self.quantum_s, self.starve_s, self.levels, self.period = quantum_s, starve_s, levels, period
        self.quantum = 1

    def serve_on(self, costs: ServiceCosts) -> None:
        """A quantum is as many tokens as a full engine gives a request in that time."""
        self.quantum = max(1, round(self.quantum_s / costs.step_s))

    @property
    def curve(self) -> Curve:
        ends = [self.quantum * (2**level - 1) for level in range(1, self.levels)]
        ends = [end for end in ends if end < MOST_TOKENS]
        return Curve(boundaries=ends, offsets=[LEVEL_GAP * level for level in range(len(ends) + 1)])

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return requests["arrival_s"].to_numpy()

    def patience(self, requests: pl.DataFrame) -> Patience:
        return Patience(self.starve_s, BEFORE_ALL, since="place", hold_tokens=self.period)
