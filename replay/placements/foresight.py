"""Knows who will be asked for, and when."""

from collections.abc import Sequence

import numpy as np

from replay.placements.expecting import Expecting
from replay.placements.future import Future
from replay.placements.plan import Mask, Plan, asked_for, idle, make_room, relieve, short
from replay.placements.starting import above_zero, not_negative, refuse_misfits
from replay.placements.stays import Stays
from toolkit.placing import ABSENT, LOADING, Action, Facts, Floats, Ints, View

AT_ONCE = 2  # models that are loaded ahead in a cycle, at most: links carry one after the other
WORTH = 0.1  # of the time its requests are there: a migration must save them and their neighbours as much


class Foresight:
    """Evict whose next request is farthest (Belady 1966), load before the next request, keep apart who comes together.

    It knows arrivals, and what the requests of a model take as far as it has seen: how long they stay, and so who will
    run beside whom within `horizon_s`. A model's cost on a GPU is the time for which its requests and its neighbours'
    will be there together, and for which they will lack KV memory. Whoever is asked for is loaded where that is least;
    where it fits nowhere, idle models whose next request comes later make room, the farthest first, and where all have
    work, those that have been there for `hold_s` and have produced a token, if their requests lose no more time by it
    than those that wait have lost and would lose. Every `cycle_s`
    models whose request comes before they could be loaded in the cycle after the next are loaded in the same way, but
    only idle models make room for them; idle ones that are not asked for within the horizon go where requests wait for
    KV memory; and the one model migrates that saves most by it. Weights leave `least_kv_share` of a GPU's memory to KV.

    It is no bound: it does one thing after the other, each the best for the next half minute, and lets no model starve
    so that the others are served in time, which pays where far more models are asked than GPUs hold. `arbitrates` lets
    a GPU's models share one queue.
    """

    def __init__(
        self,
        horizon_s: float = 30.0,
        hold_s: float = 5.0,
        cycle_s: float = 0.5,
        least_kv_share: float = 0.05,
        arbitrates: bool = False,
    ):
        above_zero("foresight", horizon_s=horizon_s, cycle_s=cycle_s)
        not_negative("foresight", hold_s=hold_s, least_kv_share=least_kv_share)
        self.horizon_s, self.hold_s, self.interval_s, self.least_kv_share = horizon_s, hold_s, cycle_s, least_kv_share
        self.arbitrates = arbitrates

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts, self.stays = facts, Stays(len(facts.models))
        refuse_misfits(facts, self.least_kv_share, "foresight")
        self.future = Future(facts, self.horizon_s)
        self.expecting = Expecting(facts, self.horizon_s, 10 * self.horizon_s)
        each = facts.tokens_per_s / np.maximum(facts.requests_per_s, 1e-12)
        self.request_bytes = np.maximum(each * facts.kv_bytes_per_token, 1.0)
        none = np.zeros(len(facts.models), np.int64)
        self._look_ahead(0.0, none)
        next_s = self.future.next_s(0.0, none)
        plan = Plan(facts, least_kv_share=self.least_kv_share)
        for m in np.argsort(next_s, kind="stable").tolist():
            chosen = plan.choose(m, self._cost(plan, m)) if np.isfinite(next_s[m]) else None
            if chosen is not None:
                plan.load(m, chosen)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan = Plan(self.facts, view, self.least_kv_share)
        had_a_turn = self.stays.had_a_turn(view, self.hold_s)
        self.expecting.note(view)
        if view.why == "memory":
            relieve(plan, view)
            return plan.actions
        here = view.waiting + view.running
        self._look_ahead(view.now_s, here)
        next_s = self.future.next_s(view.now_s, view.arrived)
        for m in asked_for(view):
            busy = self._giving(plan, view, m, here, had_a_turn)
            self._bring(plan, m, [*self._resting(plan, view, next_s, view.now_s), *busy])
        if view.why == "tick":
            self._load_ahead(plan, view, next_s)
            self._free_kv(plan, view, next_s)
            if here.any() and not plan.actions and not (plan.state == LOADING).any():
                self._migrate(plan)
        return plan.actions

    def rests(self, view: View) -> float:
        """Until a model is to be loaded ahead."""
        away = view.state == ABSENT
        return float((self.future.next_s(view.now_s, view.arrived) - self._lead_s())[away].min(initial=np.inf))

    def _lead_s(self) -> Floats:
        """[m] how long before its next request a model is loaded."""
        load_s = np.where(np.isfinite(self.facts.load_s), self.facts.load_s, 0.0).max(axis=1)
        lead: Floats = 2 * load_s + self.interval_s
        return lead

    def _look_ahead(self, now_s: float, here: Ints) -> None:
        """Who will be there, of those who are and of those to come, and with how much KV memory."""
        stay_s = self.expecting.stay_s
        self.there, self.coming = (self.future.present(now_s, n, stay_s) for n in (here, np.zeros_like(here)))
        self.busy, self.kv_bytes = self.there > 0, self.there * self.request_bytes

    def _load_ahead(self, plan: Plan, view: View, next_s: Floats) -> None:
        soon = (plan.state == ABSENT) & (view.waiting == 0) & (next_s <= view.now_s + self._lead_s())
        for m in _ordered(soon, next_s)[:AT_ONCE]:
            self._bring(plan, m, self._resting(plan, view, next_s, float(next_s[m])))

    def _free_kv(self, plan: Plan, view: View, next_s: Floats) -> None:
        """Let one idle model a GPU go where requests wait for KV memory."""
        for g in np.flatnonzero(short(plan, view)).tolist():
            gone = [m for m in self._resting(plan, view, next_s, view.now_s + self.horizon_s) if plan.here[g, m]]
            if gone:
                plan.evict(gone[0])

    def _migrate(self, plan: Plan) -> None:
        """Move the one model that saves most time of requests to come: what runs ends where it is."""
        best: tuple[float, int, tuple[int, ...]] | None = None
        asked = self.coming.sum(axis=0) * self.future.bin_s
        for m in np.flatnonzero(plan.evictable & (asked > 0)).tolist():
            cost, fitting = self._cost(plan, m, self.coming[:, m]), plan.fits(m)
            fitting[list(plan.gpus[m])] = False
            target = plan.choose(m, cost, fitting)
            if target is not None:
                saved = float(cost[list(plan.gpus[m])].max() - cost[list(target)].max())
                if saved > WORTH * asked[m] and (best is None or saved > best[0]):
                    best = saved, m, target
        if best is not None:
            plan.migrate(best[1], best[2])

    def _bring(self, plan: Plan, m: int, victims: list[int]) -> None:
        chosen = make_room(plan, m, victims, self._cost(plan, m))
        if chosen is not None:
            plan.load(m, chosen)

    def _giving(self, plan: Plan, view: View, m: int, here: Ints, had_a_turn: Mask) -> list[int]:
        """Models with work that make room for `m`, each losing no more by it than `m` gains; the least loss first."""
        load_s = self.facts.load_s.min(axis=1)
        gain_s = view.waiting[m] * (view.now_s - view.oldest_s[m] + load_s[m])
        loss_s = here * (load_s[m] + self.expecting.stay_s[m] + load_s)
        return _ordered(plan.evictable & (here > 0) & had_a_turn & (loss_s <= gain_s), loss_s)

    def _resting(self, plan: Plan, view: View, next_s: Floats, after_s: float) -> list[int]:
        """Idle models that are not asked for until `after_s`, the farthest first."""
        return _ordered(idle(plan, view) & (next_s > after_s), -next_s)

    def _cost(self, plan: Plan, m: int, mine: Floats | None = None) -> Floats:
        """[g] seconds that requests lose if a model is there: of its own (`mine`: so many), and its neighbours'."""
        here = plan.here.copy()
        here[:, m] = False
        mine = self.there[:, m] if mine is None else mine
        beside = (mine @ self.busy + (mine > 0) @ self.there) @ here.T
        weights = np.where(plan.here[:, m], plan.weights, plan.weights + self.facts.weight_bytes[m])
        wanted = self.kv_bytes @ here.T + (mine * self.request_bytes[m])[:, None]
        lacking = np.maximum(wanted - np.maximum(self.facts.memory_bytes - weights, 0.0), 0.0).sum(axis=0)
        seconds: Floats = (beside + lacking / self.request_bytes[m]) * self.future.bin_s
        return seconds + 1e-15 * plan.weights


def _ordered(mask: Mask, key: Floats) -> list[int]:
    found = np.flatnonzero(mask)
    ordered: list[int] = found[np.argsort(key[found], kind="stable")].tolist()
    return ordered
