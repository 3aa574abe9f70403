"""What policies that boost have in common: tokens as seconds of service, and a decay rate."""

from dataclasses import replace

import numpy as np
import polars as pl

from replay.schedulers.boosting import decay_rate
from toolkit.errors import SettingFailure
from toolkit.protocols import ServiceCosts

UNTOLD = ServiceCosts(64e-6, 64e-6, 0.02, 64e-6)  # where no engine tells; 64 µs are UniBoost's authors'


class Boosted:
    """`gamma` (per second of service) is the trace's own decay rate by default: the root of λ(E[e^{γS}] − 1) = γ.

    `alpha_prefill` and `alpha_decode` are seconds of exclusive service a prompt token and an output token take; the
    engine's own, at a full batch, by default.
    """

    def __init__(
        self, gamma: float | None = None, alpha_prefill: float | None = None, alpha_decode: float | None = None
    ):
        if gamma is not None and gamma <= 0:
            raise SettingFailure(f"{gamma:g} is not above 0", where="gamma", hint="inf is FCFS")
        for name, alpha in (("alpha_prefill", alpha_prefill), ("alpha_decode", alpha_decode)):
            if alpha is not None and not 0 < alpha < np.inf:
                hint = "seconds of service a token, such as 64e-6; left out it is the engine's"
                raise SettingFailure(f"{alpha:g} is not above 0", where=name, hint=hint)
        self.given, self.alphas = gamma, (alpha_prefill, alpha_decode)
        self.gamma = gamma if gamma is not None else np.nan
        self.root = np.nan
        self.serve_on(UNTOLD)

    def serve_on(self, costs: ServiceCosts) -> None:
        prefill, decode = self.alphas
        self.costs = replace(
            costs,
            prefill_s_per_token=costs.prefill_s_per_token if prefill is None else prefill,
            decode_s_per_token=costs.decode_s_per_token if decode is None else decode,
        )

    def learn(self, requests: pl.DataFrame) -> None:
        """Find the decay rate from the first requests asked about: all of a trace."""
        if not np.isnan(self.root):
            return
        prompt, output = (requests[name].fill_null(0).to_numpy() for name in ("prompt_tokens", "output_tokens"))
        sizes_s = self.costs.prefill_s_per_token * prompt + self.costs.decode_s_per_token * output
        span_s = float(np.ptp(requests["arrival_s"].to_numpy())) if len(requests) else 0.0
        if span_s == 0.0 or not sizes_s.any():
            self.root = np.inf if self.given is None else self.given  # no rate to tell: FCFS
        else:
            self.root = decay_rate(sizes_s[sizes_s > 0], len(requests) / span_s)
        if self.given is None:
            self.gamma = self.root
