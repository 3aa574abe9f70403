"""Whoever is asked for is loaded, and whoever was asked for longest ago makes room."""

from collections.abc import Sequence

import numpy as np

from replay.placements.plan import Mask, Plan, asked_for, idle, make_room, relieve
from replay.placements.starting import above_zero, checked, not_negative, refuse_misfits, start
from replay.placements.stays import Stays
from toolkit.placing import Action, Facts, View


class LRU:
    """Load on demand, and evict the least recently used model that has nothing to do.

    Where all have something to do, the one that became ready first goes, but not within `hold_s` of that, nor before it
    has produced a token. `start` = `rate` begins with what fits by average rate, `empty` with nothing; every `cycle_s`
    those that still wait are looked at again.
    Weights leave `least_kv_share` of a GPU's memory to KV.
    """

    def __init__(self, hold_s: float = 5.0, cycle_s: float = 1.0, start: str = "rate", least_kv_share: float = 0.05):
        checked(start, "lru")
        above_zero("lru", cycle_s=cycle_s)
        not_negative("lru", hold_s=hold_s, least_kv_share=least_kv_share)
        self.hold_s, self.interval_s, self.start, self.least_kv_share = hold_s, cycle_s, start, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts, self.stays = facts, Stays(len(facts.models))
        refuse_misfits(facts, self.least_kv_share, "lru")
        plan = Plan(facts, least_kv_share=self.least_kv_share)
        start(plan, self.start)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan = Plan(self.facts, view, self.least_kv_share)
        had_a_turn = self.stays.had_a_turn(view, self.hold_s)
        if view.why == "memory":
            relieve(plan, view)
            return plan.actions
        for m in asked_for(view):
            chosen = make_room(plan, m, self._victims(plan, view, had_a_turn), plan.weights)
            if chosen is not None:
                plan.load(m, chosen)
        return plan.actions

    def rests(self, view: View) -> float:
        """Until somebody is asked for."""
        return np.inf

    def _victims(self, plan: Plan, view: View, had_a_turn: Mask) -> list[int]:
        """Who may go: idle models by last use, then those that have been here long enough, by arrival."""
        resting = idle(plan, view)
        held = plan.evictable & ~resting & had_a_turn
        first = np.flatnonzero(resting)
        then = np.flatnonzero(held)
        return [
            *first[np.argsort(view.last_active_s[first], kind="stable")].tolist(),
            *then[np.argsort(view.ready_s[then], kind="stable")].tolist(),
        ]
