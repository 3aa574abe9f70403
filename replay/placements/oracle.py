"""Knows who will be asked for, and when."""

from collections.abc import Sequence

import numpy as np

from replay.placements.plan import Mask, Plan, asked_for, idle, make_room, relieve
from replay.placements.starting import refuse_misfits
from replay.placements.stays import Stays
from toolkit.placing import ABSENT, Action, Facts, Floats, Ints, View

AT_ONCE = 2  # models that are loaded ahead in a cycle, at most: links carry one after the other
BINS = 20_000  # of the trace's span, at most: how finely future work is added up


class Future:
    """Arrivals to come, by model; where a replay's sessions delay them, the trace's own times."""

    def __init__(self, facts: Facts, horizon_s: float):
        ends = np.cumsum([len(times) + 1 for times in facts.future])
        self._first = ends - np.array([len(times) + 1 for times in facts.future])
        self._times = np.concatenate([np.append(times, np.inf) for times in facts.future])
        last = max((float(times[-1]) for times in facts.future if len(times)), default=0.0)
        self._bin_s = max(1.0, last / BINS)
        bins = int(last / self._bin_s) + 2
        counts = np.zeros((bins + 1, len(facts.models)))
        for m, times in enumerate(facts.future):
            counts[1:, m] = np.bincount((times / self._bin_s).astype(int), minlength=bins)
        self._before = np.cumsum(counts, axis=0)
        self._ahead = max(1, round(horizon_s / self._bin_s))

    def next_s(self, now_s: float, arrived: Ints) -> Floats:
        """[m] when the next request comes; infinite: none does."""
        at: Floats = np.maximum(self._times[self._first + arrived], now_s)
        return at

    def requests(self, now_s: float) -> Floats:
        """[m] that come within the horizon."""
        last = len(self._before) - 1
        begin = min(int(now_s / self._bin_s), last)
        coming: Floats = self._before[min(begin + self._ahead, last)] - self._before[begin]
        return coming


class Oracle:
    """Evict whose next request is farthest (Belady 1966), load before the next request, spread the load to come.

    Whoever is asked for is loaded where the least work comes within `horizon_s`; where it fits nowhere, idle models
    whose next request comes later make room, the farthest first, and where all have work, those that have been there
    for `hold_s` and have produced a token, the least work to come first. Every `cycle_s` models whose request comes
    before they could be loaded in the next cycle are loaded in the same way, but only idle models make room for them.
    It knows arrivals, not what is best: Belady's rule is best for pages of one size and cost, so this is a bound in
    spirit. Weights leave `least_kv_share` of a GPU's memory to KV.
    """

    arbitrates = True

    def __init__(
        self, horizon_s: float = 30.0, hold_s: float = 5.0, cycle_s: float = 0.5, least_kv_share: float = 0.05
    ):
        self.horizon_s, self.hold_s, self.interval_s, self.least_kv_share = horizon_s, hold_s, cycle_s, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts, self.stays = facts, Stays(len(facts.models))
        refuse_misfits(facts, self.least_kv_share, "oracle")
        self.future = Future(facts, self.horizon_s)
        tokens = facts.tokens_per_s / np.maximum(facts.requests_per_s, 1e-12)
        self.request_s = tokens * facts.decode_s_per_token
        next_s = self.future.next_s(0.0, np.zeros(len(facts.models), np.int64))
        plan = Plan(facts, least_kv_share=self.least_kv_share)
        work = self.future.requests(0.0) * self.request_s
        for m in np.argsort(next_s, kind="stable").tolist():
            chosen = plan.choose(m, self._cost(plan, work)) if np.isfinite(next_s[m]) else None
            if chosen is not None:
                plan.load(m, chosen)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan = Plan(self.facts, view, self.least_kv_share)
        had_a_turn = self.stays.had_a_turn(view, self.hold_s)
        if view.why == "memory":
            relieve(plan, view)
            return plan.actions
        next_s = self.future.next_s(view.now_s, view.arrived)
        held = plan.evictable & (view.waiting + view.running > 0) & had_a_turn
        work = (self.future.requests(view.now_s) + view.waiting + view.running) * self.request_s
        for m in asked_for(view):
            self._bring(
                plan, m, [*self._resting(plan, view, next_s, view.now_s), *_ordered(held & plan.evictable, work)], work
            )
        if view.why == "tick":
            lead_s = np.where(np.isfinite(self.facts.load_s), self.facts.load_s, 0.0).max(axis=1) + self.interval_s
            soon = (plan.state == ABSENT) & (view.waiting == 0) & (next_s <= view.now_s + lead_s)
            for m in _ordered(soon, next_s)[:AT_ONCE]:
                self._bring(plan, m, self._resting(plan, view, next_s, float(next_s[m])), work)
        return plan.actions

    def _bring(self, plan: Plan, m: int, victims: list[int], work: Floats) -> None:
        chosen = make_room(plan, m, victims, self._cost(plan, work))
        if chosen is not None:
            plan.load(m, chosen)

    def _resting(self, plan: Plan, view: View, next_s: Floats, after_s: float) -> list[int]:
        """Idle models that are not asked for until `after_s`, the farthest first."""
        return _ordered(idle(plan, view) & (next_s > after_s), -next_s)

    def _cost(self, plan: Plan, work: Floats) -> Floats:
        cost: Floats = plan.here @ work + 1e-15 * plan.weights
        return cost


def _ordered(mask: Mask, key: Floats) -> list[int]:
    found = np.flatnonzero(mask)
    ordered: list[int] = found[np.argsort(key[found], kind="stable")].tolist()
    return ordered
