"""Everything has its place for good, and quotas of KV memory follow use (MuxServe with elastic memory: MuxServe++)."""

from collections.abc import Sequence

import numpy as np

from replay.placements.plan import longest_bytes
from replay.placements.spread import spread
from replay.placements.starting import above_zero, kv_rate, not_negative
from toolkit.placing import LOADING, READY, Action, Facts, Floats, Load, Resize, View

ENOUGH = 0.1  # share of a quota that must change before it is


class MuxServe:
    """Models are placed before the replay, by popularity × compute; those of a GPU share its KV memory under quotas.

    Prism's MuxServe++ (2505.04021, section 7): MuxServe's greedy placement (Duan et al., ICML 2024), kvcached's common
    pool, no eviction and no migration. The most work a second comes first, where there is least. Every `cycle_s` a
    GPU's KV memory is divided anew, as fair as rates are: each model gets what its requests need (their number × mean
    tokens, times `headroom`) as far as that is within its rate's share of what the others leave, and its share of what
    is over; never less than its longest request, for which quotas may overlap. MuxServe runs prefills first: that is an
    engine's setting, and the engines here run decodes first, as vLLM does. Weights leave `least_kv_share` of a GPU's
    memory to KV.
    """

    def __init__(self, cycle_s: float = 5.0, headroom: float = 1.25, least_kv_share: float = 0.05):
        above_zero("muxserve++", cycle_s=cycle_s, headroom=headroom)
        not_negative("muxserve++", least_kv_share=least_kv_share)
        self.interval_s, self.headroom, self.least_kv_share = cycle_s, headroom, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts = facts
        work = facts.tokens_per_s * (facts.prefill_s_per_token + facts.decode_s_per_token) / 2
        self.places = spread(facts, work, self.least_kv_share)
        gpus = range(len(facts.gpus))
        self.here = [np.array([m for m, there in self.places.items() if g in there], np.int64) for g in gpus]
        self.pool = [float(facts.memory_bytes[g] - facts.weight_bytes[self.here[g]].sum()) for g in gpus]
        self.mean_bytes = kv_rate(facts) / np.maximum(facts.requests_per_s, 1e-12)
        self.share = np.maximum(kv_rate(facts), 1e-9 * max(float(kv_rate(facts).max()), 1e-9))
        self.quota = self._quotas(np.zeros(len(facts.models)))
        return [Load(m, gpus, kv_bytes=float(self.quota[m])) for m, gpus in self.places.items()]

    def decide(self, view: View) -> Sequence[Action]:
        if view.why != "tick":
            return []
        need = (view.waiting + view.running) * self.mean_bytes * self.headroom
        quota = self._quotas(need)
        here = (view.state == READY) | (view.state == LOADING)
        moved = here & (np.abs(quota - self.quota) > ENOUGH * self.quota)
        self.quota[moved] = quota[moved]
        return [Resize(m, float(quota[m])) for m in np.flatnonzero(moved).tolist()]

    def rests(self, view: View) -> float:
        """Until somebody is asked for: quotas follow requests."""
        return np.inf

    def _quotas(self, need: Floats) -> Floats:
        """[m] on each of its GPUs: the least of what they give."""
        quota = np.full(len(need), np.inf)
        for here, pool in zip(self.here, self.pool, strict=True):
            if len(here):
                quota[here] = np.minimum(quota[here], divided(pool, need[here], self.share[here]))
        floor: Floats = np.maximum(quota, np.where(np.isfinite(quota), longest_bytes(self.facts), 0.0))
        return floor


def divided(pool: float, need: Floats, share: Floats) -> Floats:
    """`pool` by need, nobody below it while others are above their weighted share; what is over goes by share."""
    given = np.zeros(len(need))
    open_ = np.ones(len(need), bool)
    left = pool
    while open_.any() and left > 0:
        level = left * share / share[open_].sum()
        content = open_ & (need <= level)
        if not content.any():
            given[open_] = level[open_]
            return given
        given[content] = need[content]
        left -= float(need[content].sum())
        open_ &= ~content
    spare: Floats = given + max(left, 0.0) * share / share.sum()
    return spare
