"""Groups of requests in virtual queues, swapped in by deadline (Patke et al., QLM, SoCC 2024)."""

from collections.abc import Sequence

import numpy as np

from replay.placements.plan import Mask, Plan, asked_for
from replay.placements.starting import above_zero, checked, not_negative, refuse_misfits, start
from toolkit.placing import READY, Action, Facts, Floats, View


class QLM:
    """One model a GPU at a time; requests of a model are grouped, and groups are served by deadline.

    A group is what waits for a model when its turn begins, at most `group` requests; its deadline is that of its oldest
    one: arrival + TTFT objective (`slo_ttft_s` where there is none). The next group's model is swapped in when the
    group that runs is done, or before when its slack is less than its load and the work that is left: requests then
    lose their place, and wait with the rest. Work is estimated as requests × mean tokens × the time of a token in full
    batches. A swap restarts the engine. Waiting is looked at every `cycle_s`; `start` = `rate` begins with the most
    asked models, `empty` with nothing. Weights leave `least_kv_share` of a GPU's memory to KV.
    """

    loading = "naive"
    elastic = False

    def __init__(
        self,
        group: int = 64,
        slo_ttft_s: float = 1.0,
        cycle_s: float = 1.0,
        start: str = "rate",
        least_kv_share: float = 0.05,
    ):
        checked(start, "qlm")
        above_zero("qlm", group=group, slo_ttft_s=slo_ttft_s, cycle_s=cycle_s)
        not_negative("qlm", least_kv_share=least_kv_share)
        self.group, self.slo_ttft_s, self.interval_s = group, slo_ttft_s, cycle_s
        self.start, self.least_kv_share = start, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts = facts
        refuse_misfits(facts, self.least_kv_share, "qlm")
        tokens = facts.tokens_per_s / np.maximum(facts.requests_per_s, 1e-12)
        self.request_s = tokens * facts.decode_s_per_token
        self.objective_s = np.where(np.isnan(facts.slo_ttft_s), self.slo_ttft_s, facts.slo_ttft_s)
        self.least_load_s = facts.load_s.min(axis=1)
        self.due_s = np.full(len(facts.models), np.inf)  # of the group whose turn it is
        self.until = np.zeros(len(facts.models), np.int64)  # requests that will have ended when it is done
        plan = self._plan(None)
        start(plan, self.start, exclusive=True)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan, here = self._plan(view), view.waiting + view.running
        ended = view.arrived - here
        over = (view.state == READY) & (here > 0) & (ended >= self.until)
        next_due_s = np.fmin(view.oldest_s, view.now_s) + self.objective_s
        for m in np.flatnonzero(over).tolist():
            self._begin_turn(m, float(next_due_s[m]), view)
        asked = sorted(asked_for(view), key=lambda m: (next_due_s[m], m))
        gives = self._gives(asked, next_due_s[asked], view)
        giving = gives & plan.evictable
        free = _free(plan, giving)
        somewhere: list[bool] = np.any(free, axis=1).tolist()
        for at, m in enumerate(asked):
            chosen = None
            if somewhere[at]:
                left_s = plan.here @ (here * self.request_s)
                chosen = plan.choose(m, left_s, free[at] & plan.fits(m, without=giving[at]))
            if chosen is not None:
                for o in np.flatnonzero(plan.here[list(chosen)].any(axis=0)).tolist():
                    plan.evict(o)
                plan.load(m, chosen)
                self._begin_turn(m, float(next_due_s[m]), view)
                giving = gives & plan.evictable
                free = _free(plan, giving)
                somewhere = np.any(free, axis=1).tolist()
            elif self.facts.width[m] > 1:
                break
        return plan.actions

    def rests(self, view: View) -> float:
        """Until somebody is asked for."""
        return np.inf

    def _gives(self, asked: list[int], due_s: Floats, view: View) -> Mask:
        """[a, o] whether a model whose turn it is would give its GPUs to one that is asked for."""
        left = view.waiting + view.running
        slack_s = due_s - view.now_s - self.least_load_s[asked]
        work_s = np.minimum(left, self.until - (view.arrived - left)) * self.request_s
        gives: Mask = (left == 0) | ((due_s[:, None] < self.due_s) & (slack_s[:, None] < work_s))
        return gives

    def _begin_turn(self, m: int, due_s: float, view: View) -> None:
        here = int(view.waiting[m] + view.running[m])
        self.due_s[m], self.until[m] = due_s, view.arrived[m] - here + min(here, self.group)

    def _plan(self, view: View | None) -> Plan:
        return Plan(self.facts, view, self.least_kv_share, but_long=True)


def _free(plan: Plan, giving: Mask) -> Mask:
    """[a, g] where nobody lives but who gives."""
    with np.errstate(invalid="ignore"):  # of zeros and ones nothing is, but a BLAS has been seen to raise the flag
        keeping = np.logical_not(giving).astype(np.float32) @ plan.here.T.astype(np.float32)  # how many: whole numbers
    free: Mask = keeping == 0
    return free
