"""UniBoost: tail-aware scheduling without predictions."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.boosted import Boosted
from replay.schedulers.boosting import boost_s
from replay.schedulers.gamma_ada import GammaAda
from toolkit.errors import SettingFailure, nearest
from toolkit.protocols import Curve, Preemption

PHASES = ("base", "memguard", "ada")
FINE = 1.02  # ratio of the work at which the unquantised phase looks again
MOST_TOKENS = 2**22
NOTICED = 0.01


class UniBoost(Boosted):
    """Arrival less the boost of the work attained: max(output tokens, prompt tokens not in the cache), as seconds.

    2606.18431, `phase` by phase: `base`, one priority space, displacing whoever ranks more than `delta` seconds later;
    `memguard`, ranks that change only at k, 2k, 4k … tokens, a minimum run to the next of these, and victims by rank
    less `swap_weight` times the seconds it takes to bring their context back; `ada`, γ following the latencies of what
    has ended by `rule`: the paper's `slope` or the authors' `ratio`. Where the paper names no constant: k, delta and
    swap_weight are ours.
    """

    observe_every_s = 5.0

    def __init__(
        self,
        phase: str = "ada",
        gamma: float | None = None,
        k: int = 256,
        delta: float = 0.0,
        swap_weight: float = 1.0,
        rule: str = "slope",
        alpha_prefill: float | None = None,
        alpha_decode: float | None = None,
    ):
        super().__init__(gamma, alpha_prefill, alpha_decode)
        if phase not in PHASES:
            raise SettingFailure(f"no phase '{phase}'", hint=nearest(phase, PHASES))
        if not 1 <= k < MOST_TOKENS or delta < 0 or swap_weight < 0:
            given = f"k={k}, delta={delta:g}, swap_weight={swap_weight:g}"
            raise SettingFailure(given, hint=f"k from 1 to below {MOST_TOKENS}, the others ≥ 0")
        self.phase, self.k, self.delta, self.swap_weight = phase, k, delta, swap_weight
        self.work = _fine() if phase == "base" else _doubling(k)
        if phase == "ada":
            self._ada = GammaAda(rule)
            self.observe = self._observe  # looked up by name: the other phases learn nothing

    @property
    def preemption(self) -> Preemption:
        if self.phase == "base" or np.isinf(self.gamma):  # without boosts there is nothing to guard against: FCFS
            return Preemption("rank", hysteresis=self.delta)
        cost = self.swap_weight * self.costs.restore_s_per_token
        return Preemption("rank", min_run=True, hysteresis=self.delta, context_cost=cost)

    @property
    def curve(self) -> Curve:
        attained = np.concatenate([self.work[:1], self.work]) if self.phase != "base" else np.append(0.5, self.work)
        offsets = -boost_s(self.costs.decode_s_per_token * attained, self.gamma)
        prompt_work = self.costs.prefill_s_per_token / self.costs.decode_s_per_token
        return Curve(boundaries=self.work.tolist(), offsets=offsets, prompt_work=prompt_work)

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        self.learn(requests)
        return requests["arrival_s"].to_numpy()

    def _observe(self, outcomes: pl.DataFrame, now_s: float) -> bool:
        """Follow the latencies; a γ that moves by less than a hundredth stands."""
        gamma = self._ada.updated(self.gamma, self.root, outcomes)
        moved = abs(gamma - self.gamma) > NOTICED * self.gamma
        if moved:
            self.gamma = gamma
        return moved


def _doubling(k: int) -> NDArray[np.int64]:
    return k * 2 ** np.arange(max(1, int(np.log2(MOST_TOKENS / k))))


def _fine() -> NDArray[np.int64]:
    return np.unique(np.ceil(FINE ** np.arange(np.log(MOST_TOKENS) / np.log(FINE)))).astype(np.int64)
