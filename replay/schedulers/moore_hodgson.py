"""Moore–Hodgson: as many first tokens in time as can be."""

import heapq

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.deadlines import ttft_slo_s
from toolkit.errors import SettingFailure
from toolkit.protocols import Patience, ServiceCosts, Waiting

AFTER_ALL_S = 1e9


class MooreHodgson:
    """Moore–Hodgson on TTFT deadlines: the largest set of waiting requests that can all be in time, then the others.

    Prism's GPU-local arbitration (2505.04021, algorithm 2). Prompts take `alpha_prefill` seconds a token (each
    model's own by default) one after the other; `slo_ttft_s` is for a request without an objective. What the paper
    leaves open: those left out stay, are judged again each time, and run when nothing else waits, by deadline; one that
    can no longer be in time even alone joins them. The `window` earliest deadlines are judged.
    """

    def __init__(self, slo_ttft_s: float = 1.0, alpha_prefill: float | None = None, window: int = 64):
        if window < 1:
            raise SettingFailure(f"{window} is below 1", where="window")
        self.slo_ttft_s, self.alpha_prefill, self.window = slo_ttft_s, alpha_prefill, window
        self._alphas = np.array([alpha_prefill or 0.0])  # by model in alphabetical order; one: all alike

    def serve_on(self, costs: ServiceCosts) -> None:
        none = np.zeros(0)
        _order(none, none, 0.0, none.astype(np.int32), none, none.astype(np.int64), 0.0)  # compiled or loaded now
        if self.alpha_prefill is not None:
            return
        each = [costs.models[name].prefill_s_per_token for name in sorted(costs.models)]
        self._alphas = np.array(each or [costs.prefill_s_per_token])

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return requests["arrival_s"].to_numpy() + ttft_slo_s(requests, self.slo_ttft_s)

    def patience(self, requests: pl.DataFrame) -> Patience:
        model = requests["model"].rank("dense").fill_null(1).to_numpy().astype(np.int64) - 1
        alphas = self._alphas if len(self._alphas) == 1 else self._alphas[model]
        takes_s = alphas * requests["prompt_tokens"].fill_null(0).to_numpy()
        return Patience(np.maximum(ttft_slo_s(requests, self.slo_ttft_s) - takes_s, 0.0), AFTER_ALL_S)

    def order(self, waiting: Waiting, now_s: float) -> NDArray[np.int64]:
        tokens = waiting["prompt_tokens"]
        model = waiting["model"] if len(self._alphas) > 1 else np.zeros(len(tokens), np.int64)
        slo_s, otherwise_s = waiting["slo_ttft_s"], self.slo_ttft_s
        # In one call, as a queue is ordered for every request that leaves it.
        return _order(waiting["arrival_s"], slo_s, otherwise_s, tokens, self._alphas, model, now_s)


@numba.njit(cache=True)
def in_time(due_s: NDArray[np.float64], takes_s: NDArray[np.float64], now_s: float) -> NDArray[np.int64]:
    """Positions of the jobs (earliest due first): those that can all be in time, one after the other, then the rest.

    Moore (1968): whenever a job would be late, the longest one taken so far is left out.
    """
    left_out = np.zeros(due_s.size, np.bool_)
    longest = [(0.0, -1)]  # a heap of (-time, position): those taken
    longest.pop()
    end_s = now_s
    for position in range(due_s.size):
        heapq.heappush(longest, (-takes_s[position], position))
        end_s += takes_s[position]
        if end_s > due_s[position]:
            time, worst = heapq.heappop(longest)
            end_s += time
            left_out[worst] = True
    return np.concatenate((np.flatnonzero(~left_out), np.flatnonzero(left_out)))


@numba.njit(cache=True)
def _order(
    arrival_s: NDArray[np.float64],
    slo_s: NDArray[np.float64],
    otherwise_s: float,
    tokens: NDArray[np.int32],
    alphas: NDArray[np.float64],
    model: NDArray[np.int64],
    now_s: float,
) -> NDArray[np.int64]:
    due_s = arrival_s + np.where(np.isnan(slo_s), otherwise_s, slo_s)
    return in_time(due_s, alphas[model] * tokens, now_s)
