"""One model a GPU at a time, loaded when asked for and kept for a while (Fu et al., ServerlessLLM, OSDI 2024)."""

from collections.abc import Sequence

import numpy as np

from replay.placements.plan import Plan, asked_for, idle
from replay.placements.starting import above_zero, checked, not_negative, refuse_misfits, start
from toolkit.placing import READY, Action, Facts, View


class ServerlessLLM:
    """Time sharing: GPUs go to the models that wait longest, each where its start-up is shortest; nobody is preempted.

    A model without requests stays for `keep_s` and is unloaded then. GPUs that become free while the longest waiting
    model needs several are kept for it. No live migration and no second copy of a model: Prism's account of this
    baseline has neither. `start` = `rate` begins with the most asked models, `empty` with nothing; every `cycle_s`
    those that wait are looked at again. Weights leave `least_kv_share` of a GPU's memory to KV.
    """

    elastic = False

    def __init__(self, keep_s: float = 10.0, cycle_s: float = 1.0, start: str = "rate", least_kv_share: float = 0.05):
        checked(start, "serverlessllm")
        above_zero("serverlessllm", cycle_s=cycle_s)
        not_negative("serverlessllm", keep_s=keep_s, least_kv_share=least_kv_share)
        self.keep_s, self.interval_s, self.start, self.least_kv_share = keep_s, cycle_s, start, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts = facts
        refuse_misfits(facts, self.least_kv_share, "serverlessllm")
        plan = self._plan(None)
        start(plan, self.start, exclusive=True)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan = self._plan(view)
        kept_since = np.maximum(view.ready_s, view.last_active_s)
        for m in np.flatnonzero(idle(plan, view) & (kept_since + self.keep_s <= view.now_s)).tolist():
            plan.evict(m)
        if not (plan.weights < 1.0).any():
            return plan.actions
        for m in asked_for(view):
            chosen = plan.choose(m, self.facts.load_s[m], (plan.weights < 1.0) & plan.fits(m))
            if chosen is not None:
                plan.load(m, chosen)
            elif self.facts.width[m] > 1:
                break
        return plan.actions

    def rests(self, view: View) -> float:
        """Until somebody has been kept for long enough."""
        kept_since = np.maximum(view.ready_s, view.last_active_s)[view.state == READY]
        return float(kept_since.min(initial=np.inf)) + self.keep_s

    def _plan(self, view: View | None) -> Plan:
        return Plan(self.facts, view, self.least_kv_share, but_long=True)
