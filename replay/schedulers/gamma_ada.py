"""γ-Ada: UniBoost's fourth phase, a decay rate that follows the latencies of what has ended."""

import numpy as np
import polars as pl

from toolkit.errors import SettingFailure, nearest

WINDOW, ENOUGH = 2000, 200
SMOOTHING = 0.3
SLOPE_BOUNDS = (0.2, 5.0)  # times the root of the trace
RATIO_BOUNDS = (1.0, 200.0)  # per second


class GammaAda:
    """The next γ from the last E2E latencies, smoothed.

    `slope`: ln 5/(t99 − t95), the decay of the tail between these quantiles (2606.18431, phase 4), within SLOPE_BOUNDS
    times the root. `ratio`: γmax/(1 + 4·max(t99/t95 − 1, 0)), the authors' code, within RATIO_BOUNDS. Window, smoothing
    and the least number of latencies are the code's; the slope's bounds are ours.
    """

    def __init__(self, rule: str):
        if rule not in ("slope", "ratio"):
            raise SettingFailure(f"no rule '{rule}'", hint=nearest(rule, ("slope", "ratio")))
        self.rule = rule
        self._latencies_s = np.zeros(0)

    def updated(self, gamma: float, root: float, outcomes: pl.DataFrame) -> float:
        """γ after these OUTCOMES; as it was while there are too few. Requests without an end do not count."""
        ended = (outcomes["status"] == "ok").to_numpy()
        latest = outcomes["finish_s"].to_numpy() - outcomes["arrival_s"].to_numpy()
        self._latencies_s = np.concatenate([self._latencies_s, latest[ended]])[-WINDOW:]
        if len(self._latencies_s) < ENOUGH or not np.isfinite(gamma):
            return gamma
        return (1 - SMOOTHING) * gamma + SMOOTHING * self._target(root)

    def _target(self, root: float) -> float:
        t95, t99 = np.quantile(self._latencies_s, (0.95, 0.99))
        if self.rule == "ratio":
            low, high = RATIO_BOUNDS
            return float(np.clip(high / (1 + 4 * max(t99 / t95 - 1, 0)), low, high))
        low, high = (factor * root for factor in SLOPE_BOUNDS)
        return float(np.clip(np.log(5) / max(t99 - t95, 1e-9), low, high))
