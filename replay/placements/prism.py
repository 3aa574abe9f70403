"""Models balance their pressure on KV memory (Yu et al., Prism, 2505.04021)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from replay.placements.kvpr import Demand, Pressed, rebalanced
from replay.placements.plan import Plan, asked_for, idle, make_room, relieve, short
from replay.placements.starting import above_zero, checked, not_negative, refuse_misfits, start
from toolkit.errors import SettingFailure
from toolkit.placing import Action, Facts, Floats, View


class Prism:
    """Place by the KV pressure ratio, load on demand, evict who is idle, migrate where pressure differs (Algorithm 1).

    A model's pressure is its tokens a second over `window_s` × KV bytes a token / TPOT objective (`slo_tpot_s` where it
    has none); a GPU's is their sum for each byte that weights leave. A request for a model that is nowhere loads it at
    once on the GPU with the least pressure where it fits; where it fits nowhere, models that had no request for
    `idle_s` go, the longest idle first, and while there is none it waits. Every `cycle_s` idle models also go where KV
    memory is short, and up to `moves` models migrate.

    What the paper leaves open: `kvpr` = `before` judges a GPU without the model to be placed, as Algorithm 1 is
    printed, `after` with it, as the text has it; `tau`, the difference that a migration must win, is absolute, and its
    value and the cycle are not given; line 10's r/s is read as bytes over the objective; a GPU is only taken where the
    weights fit. They leave `least_kv_share` of a GPU's memory to KV. `start` = `rate` begins with what fits by average
    rate, `empty` with nothing.
    """

    arbitrates = True

    def __init__(
        self,
        tau: float = 0.05,
        window_s: float = 60.0,
        cycle_s: float = 5.0,
        idle_s: float = 45.0,
        kvpr: Literal["before", "after"] = "before",
        moves: int = 1,
        slo_tpot_s: float = 0.05,
        start: str = "rate",
        least_kv_share: float = 0.05,
    ):
        if kvpr not in ("before", "after"):
            raise SettingFailure(f"'{kvpr}' is neither before nor after", where="prism:kvpr")
        checked(start, "prism")
        above_zero("prism", window_s=window_s, cycle_s=cycle_s, slo_tpot_s=slo_tpot_s)
        not_negative("prism", tau=tau, idle_s=idle_s, moves=moves, least_kv_share=least_kv_share)
        self.tau, self.window_s, self.interval_s, self.idle_s = tau, window_s, cycle_s, idle_s
        self.after, self.moves, self.slo_tpot_s = kvpr == "after", moves, slo_tpot_s
        self.start, self.least_kv_share = start, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts = facts
        refuse_misfits(facts, self.least_kv_share, "prism")
        self.demand = Demand(facts, self.window_s, self.slo_tpot_s)
        plan = Plan(facts, least_kv_share=self.least_kv_share)
        start(plan, self.start)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan, demand = Plan(self.facts, view, self.least_kv_share), self.demand.now(view)
        if view.why == "memory":
            relieve(plan, view)
            return plan.actions
        victims = self._idle_long(plan, view)
        pressed, may_go = Pressed.of(plan, demand), victims
        for m in asked_for(view):
            mine = (float(demand[m]), float(self.facts.weight_bytes[m])) if self.after else ()
            chosen = make_room(plan, m, may_go, pressed.ratios(*mine))
            if chosen is not None:
                plan.load(m, chosen)
                pressed, evictable = Pressed.of(plan, demand), plan.evictable
                may_go = [v for v in may_go if evictable[v]]
        if view.why == "tick":
            self._evict_idle(plan, view, victims)
            self._migrate(plan, demand)
        return plan.actions

    def rests(self, view: View) -> float:
        """Until somebody is asked for, once no demand is left that could move anybody."""
        resting = self.demand.settled and not self.demand.now(view).any()
        return np.inf if resting else view.now_s

    def _idle_long(self, plan: Plan, view: View) -> list[int]:
        """Who had no request for `idle_s`, the longest idle first."""
        long = idle(plan, view) & (view.now_s - np.maximum(view.last_active_s, 0.0) > self.idle_s)
        found = np.flatnonzero(long)
        ordered: list[int] = found[np.argsort(view.last_active_s[found], kind="stable")].tolist()
        return ordered

    def _evict_idle(self, plan: Plan, view: View, victims: list[int]) -> None:
        """Let idle models go where others wait for KV memory."""
        where = short(plan, view)
        for m in victims:
            if plan.evictable[m] and where[list(plan.gpus[m])].any():
                plan.evict(m)

    def _migrate(self, plan: Plan, demand: Floats) -> None:
        """Do the first `moves` of those that Algorithm 1 wants and that fit beside what is there."""
        moves = rebalanced(plan, demand, self.tau, self.after)
        for m, gpus in list(moves.items())[: self.moves]:
            if plan.fits(m)[list(gpus)].all():
                plan.migrate(m, gpus)
