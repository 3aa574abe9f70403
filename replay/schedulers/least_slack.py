"""Least slack first."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.deadlines import ttft_slo_s
from toolkit.errors import SettingFailure
from toolkit.protocols import ServiceCosts


class LeastSlack:
    """Least slack first: deadline less the time the prompt takes; `slo_ttft_s` for a request without an objective.

    All slacks shrink alike with time, so the order is fixed at arrival. `alpha_prefill` are seconds a prompt token
    takes, the engine's own by default; a prompt is taken for `least_s` at least and `most_s` at most, as in the
    released prototype of Prism (2505.04021).
    """

    def __init__(
        self,
        slo_ttft_s: float = 1.0,
        alpha_prefill: float | None = None,
        least_s: float = 0.0,
        most_s: float = np.inf,
    ):
        if not 0 <= least_s <= most_s:
            raise SettingFailure(f"least_s={least_s:g}, most_s={most_s:g}", hint="0 ≤ least_s ≤ most_s")
        self.slo_ttft_s, self.alpha_prefill = slo_ttft_s, alpha_prefill
        self.least_s, self.most_s = least_s, most_s

    def serve_on(self, costs: ServiceCosts) -> None:
        if self.alpha_prefill is None:
            self.alpha_prefill = costs.prefill_s_per_token

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        prefill_s = (self.alpha_prefill or 0.0) * requests["prompt_tokens"].fill_null(0).to_numpy()
        due_s = requests["arrival_s"].to_numpy() + ttft_slo_s(requests, self.slo_ttft_s)
        slack: NDArray[np.float64] = due_s - np.clip(prefill_s, self.least_s, self.most_s)
        return slack
