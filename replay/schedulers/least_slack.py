"""Least slack first."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.deadlines import ttft_slo_s
from toolkit.protocols import ServiceCosts


class LeastSlack:
    """Least slack first: deadline less the time the prompt takes; `slo_ttft_s` for a request without an objective.

    All slacks shrink alike with time, so the order is fixed at arrival. `alpha_prefill` are seconds a prompt token
    takes; the engine's own by default.
    """

    def __init__(self, slo_ttft_s: float = 1.0, alpha_prefill: float | None = None):
        self.slo_ttft_s, self.alpha_prefill = slo_ttft_s, alpha_prefill

    def serve_on(self, costs: ServiceCosts) -> None:
        if self.alpha_prefill is None:
            self.alpha_prefill = costs.prefill_s_per_token

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        prefill_s = (self.alpha_prefill or 0.0) * requests["prompt_tokens"].fill_null(0).to_numpy()
        return requests["arrival_s"].to_numpy() + ttft_slo_s(requests, self.slo_ttft_s) - prefill_s
