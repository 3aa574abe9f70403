"""Weighs evicting, parking on the host, migrating and waiting by the delay that each costs to requests."""

from collections.abc import Sequence

import numpy as np

from replay.placements.expecting import Expecting
from replay.placements.plan import Mask, Places, Plan, idle, longest_bytes, relieve, short
from replay.placements.starting import above_zero, not_negative, refuse_misfits, start
from replay.placements.stays import Stays
from toolkit.placing import ABSENT, LOADING, READY, Action, Facts, Floats, View

TRIED = 3  # places for a model that are looked at closely
AMPLE = 0.3  # of a GPU's memory free: then models are loaded before they are asked for


class CostAware:
    """Our answer to what arXiv 2605.19593 asks of a scheduler: everything is weighed in seconds of request delay.

    A model that is asked for and not (wholly) there gains, when it is brought, its requests × (the time since they came
    + the time to bring it). Who makes room loses: its requests, and those expected meanwhile, wait until the other has
    had its time and it is back; what runs is computed again. Models make room while their loss is within the gain, the
    least loss for a GPU's byte first; so an idle one goes at once, a busy one once others have waited for as long as it
    would (ski rental), nobody before it has produced a token, and nobody so soon that swaps would take more than
    `swap_share` of the time. Expected requests are those of the last `short_s` and `long_s`; how long they stay is by
    Little's law.

    Where layers come back from the host sooner than a load takes (engines start anew, weights come from storage),
    models are parked, not evicted: no layer on the GPU, the engine up, so that a request is served slowly at once and
    faster when its layers are back; with `park` = false they are not. GPUs are chosen for the fewest neighbours that
    run. Every `cycle_s`: idle models go where requests have waited for KV memory for more than they lose, one model
    migrates where that takes `relief` running neighbours off it, and what is likely to be asked for is loaded into
    memory that is free. Weights leave `least_kv_share` of a GPU's memory to KV.
    """

    arbitrates = True

    def __init__(
        self,
        short_s: float = 30.0,
        long_s: float = 300.0,
        cycle_s: float = 0.5,
        relief: float = 0.5,
        swap_share: float = 0.1,
        park: bool = True,
        least_kv_share: float = 0.05,
    ):
        above_zero("cost-aware", short_s=short_s, long_s=long_s, cycle_s=cycle_s)
        not_negative("cost-aware", relief=relief, swap_share=swap_share, least_kv_share=least_kv_share)
        self.short_s, self.long_s, self.interval_s = short_s, long_s, cycle_s
        self.relief, self.swap_share = relief, swap_share
        self.park, self.least_kv_share = park, least_kv_share

    def begin(self, facts: Facts) -> Sequence[Action]:
        self.facts, self.stays = facts, Stays(len(facts.models))
        refuse_misfits(facts, self.least_kv_share, "cost-aware")
        self.expecting = Expecting(facts, self.short_s, self.long_s)
        self.load_s = facts.load_s.min(axis=1)
        self.parks = self.park & (facts.restore_s < 0.9 * self.load_s)
        self.back_s = np.where(self.parks, facts.restore_s, self.load_s)
        self.link_s = np.zeros(len(facts.gpus))  # when what it has ordered to move over a GPU's link is through
        self.asked_s = np.full(len(facts.models), np.nan)  # since when its requests wait for its weights
        plan = Plan(facts, least_kv_share=self.least_kv_share)
        start(plan, "rate")
        self._park_the_rest(plan)
        return plan.actions

    def decide(self, view: View) -> Sequence[Action]:
        plan = Plan(self.facts, view, self.least_kv_share)
        self.expecting.note(view)
        self.again_s = self._again_s(view)
        # Taking a model off and bringing it back takes that much of its GPUs' time.
        had_a_turn = self.stays.had_a_turn(view, (self.back_s + self.again_s) / self.swap_share)
        if view.why == "memory":
            relieve(plan, view)
            return plan.actions
        for m in self._wanting(plan, view):
            self._bring(plan, view, m, had_a_turn)
        if view.why == "tick" and not plan.actions and not (plan.state == LOADING).any():
            self._free_kv(plan, view)
            self._migrate(plan, view)
            self._load_ahead(plan, view)
        return plan.actions

    def rests(self, view: View) -> float:
        """Until somebody is asked for, where no model could migrate or be loaded ahead whatever is to be expected."""
        plan = Plan(self.facts, view, self.least_kv_share)
        could = [m for m in range(len(plan.gpus)) if self._elsewhere(plan, m).any()]
        return view.now_s if could or not self.expecting.settled else np.inf

    def _elsewhere(self, plan: Plan, m: int) -> Mask:
        """[g] where a model, or what is on the host of it, could go."""
        if plan.state[m] == READY and plan.resident[m] < 0.999:
            return plan.fits(m, 1.0 - float(plan.resident[m]))
        fitting = plan.fits(m)
        fitting[list(plan.gpus[m])] = False
        return fitting

    def _wanting(self, plan: Plan, view: View) -> list[int]:
        """Who has requests, and no or not all layers on GPUs; the longest asked first."""
        there = (plan.state == READY) & (plan.resident > 0.999)
        wanting = (view.waiting + view.running > 0) & ~there
        self.asked_s = np.where(wanting, np.fmin(self.asked_s, np.fmin(view.oldest_s, view.now_s)), np.nan)
        found = np.flatnonzero(wanting & (plan.state != LOADING) & ~plan.moving)
        ordered: list[int] = found[np.argsort(self.asked_s[found], kind="stable")].tolist()
        return ordered

    def _bring(self, plan: Plan, view: View, m: int, had_a_turn: Mask) -> None:
        """Load `m`, or bring its layers back, if those who must make room lose no more than it gains."""
        here = view.waiting + view.running
        gain_s = float(here[m] * (view.now_s - self.asked_s[m] + self._bring_s(plan)[m]))
        loss_s = self._loss_s(plan, view, m)
        may_go = plan.evictable & (plan.resident > 0) & (had_a_turn | (here == 0)) & (loss_s <= gain_s)
        may_go[m] = False
        best: tuple[float, Places, list[int]] | None = None
        crowd = self._crowd(plan, view)
        for gpus in self._promising(plan, m, may_go, loss_s, crowd):
            if self.parks.any() and self.link_s[list(gpus)].max() > view.now_s:
                continue  # layers would queue for the link, and their model stands still for as long
            going = self._going(plan, m, gpus, may_go, loss_s)
            if going is not None:
                cost = float(loss_s[going].sum() + crowd[list(gpus)].max())
                if loss_s[going].sum() <= gain_s and (best is None or cost < best[0]):
                    best = (cost, gpus, going)
        if best is not None:
            self._swap(plan, view, m, best[1], best[2])

    def _promising(self, plan: Plan, m: int, may_go: Mask, loss_s: Floats, crowd: Floats) -> list[Places]:
        """Where it could go: the few places where the first to make room loses least."""
        need = 1.0 - float(plan.resident[m])
        possible = plan.fits(m, need, without=may_go)
        each = np.where(may_go, loss_s / self.facts.weight_bytes, np.inf)
        least = np.where(plan.fits(m, need), 0.0, np.where(plan.here, each, np.inf).min(axis=1))
        could, loses, beside = possible.tolist(), least.tolist(), crowd.tolist()
        places = [gpus for gpus in self._targets(plan, m) if all(could[g] for g in gpus)]
        places.sort(key=lambda gpus: (max(loses[g] for g in gpus), max(beside[g] for g in gpus), gpus))
        return places[:TRIED]

    def _targets(self, plan: Plan, m: int) -> list[Places]:
        """Where a model could go: where its engine is; else any GPU, or the best GPUs around each."""
        if plan.state[m] == READY:
            return [plan.gpus[m]]
        width, host = int(self.facts.width[m]), self.facts.host
        if width == 1:
            return [(g,) for g in range(len(host))]
        order = np.argsort(plan.weights, kind="stable")
        sets = {tuple(sorted(order[host[order] == h][:width].tolist())) for h in set(host.tolist())}
        sets.add(tuple(sorted(order[:width].tolist())))
        return sorted(s for s in sets if len(s) == width)

    def _going(self, plan: Plan, m: int, gpus: Places, may_go: Mask, loss_s: Floats) -> list[int] | None:
        """Who has to go from `gpus`, least loss for a byte first; None: not even all that may would make room."""
        at, need, going = list(gpus), 1.0 - float(plan.resident[m]), np.zeros(len(may_go), bool)
        found = np.flatnonzero(may_go & plan.here[at].any(axis=0))
        order = found[np.argsort(loss_s[found] / self.facts.weight_bytes[found], kind="stable")].tolist()
        gone: list[int] = []
        while not plan.fits(m, need, without=going)[at].all():
            if len(gone) == len(order):
                return None
            gone.append(order[len(gone)])
            going[gone[-1]] = True
        for o in gone[:-1]:  # the last may have made others needless
            going[o] = False
            going[o] = not plan.fits(m, need, without=going)[at].all()
        return [o for o in gone if going[o]]

    def _swap(self, plan: Plan, view: View, m: int, gpus: Places, going: list[int]) -> None:
        seconds = self._bring_s(plan)[m] + (self.facts.restore_s * self.parks)[going].sum()
        self.link_s[list(gpus)] = np.maximum(self.link_s[list(gpus)], view.now_s) + seconds
        for o in going:
            self._take_off(plan, o)
        if plan.state[m] == READY:
            plan.offload(m, 1.0)
            self.stays.begin_again(m, view.now_s)
        else:
            plan.load(m, gpus)

    def _take_off(self, plan: Plan, o: int) -> None:
        if self.parks[o]:
            plan.offload(o, 0.0)
        else:
            plan.evict(o)

    def _bring_s(self, plan: Plan) -> Floats:
        """[m] until all its layers are there."""
        seconds: Floats = np.where(plan.state == READY, (1 - plan.resident) * self.facts.restore_s, self.load_s)
        return seconds

    def _loss_s(self, plan: Plan, view: View, m: int) -> Floats:
        """[m] delay of requests, all together, if a model makes room for `m`."""
        e = self.expecting
        back_s, out_s = self.back_s, self._bring_s(plan)[m] + e.stay_s[m]
        now = (view.waiting + view.running) * (out_s + back_s) + self.again_s
        to_come = e.rate * out_s * (out_s / 2 + back_s) + np.minimum(1.0, e.rate * self.long_s) * back_s * 0.5
        loss: Floats = now + to_come
        return loss

    def _again_s(self, view: View) -> Floats:
        """[m] to compute again what its requests lose with their KV memory."""
        tokens = np.where(view.running > 0, view.kv_bytes / self.facts.kv_bytes_per_token, 0.0)
        again: Floats = tokens * self.facts.prefill_s_per_token
        return again

    def _crowd(self, plan: Plan, view: View) -> Floats:
        """[g] models expected to run beside."""
        crowd: Floats = plan.here @ np.maximum(self.expecting.busy, view.running > 0)
        return crowd

    def _free_kv(self, plan: Plan, view: View) -> None:
        """Let one idle model a GPU go where requests wait for KV memory, if they have waited for more than it loses."""
        waited_s = view.waiting * np.nan_to_num(view.now_s - view.oldest_s)
        for g in np.flatnonzero(short(plan, view)).tolist():
            queued = np.where(plan.here[g], waited_s, 0.0)
            loss_s = self._loss_s(plan, view, int(np.argmax(queued)))
            may_go = idle(plan, view) & plan.here[g] & (plan.resident > 0)
            loss_s = np.where(may_go, loss_s, np.inf)
            o = int(np.argmin(loss_s))
            if loss_s[o] <= queued.sum():
                self._take_off(plan, o)

    def _migrate(self, plan: Plan, view: View) -> None:
        """Move the one model that loses most running neighbours by it."""
        busy = self.expecting.busy
        crowd = plan.here @ busy
        best: tuple[float, int, Places] | None = None
        beside, emptiest = crowd.tolist(), float(crowd.min())
        for m in np.flatnonzero(plan.evictable & (plan.resident > 0.999) & (busy > 0.2)).tolist():
            if max(beside[g] for g in plan.gpus[m]) - busy[m] - emptiest <= self.relief:
                continue
            fitting = plan.fits(m)
            fitting[list(plan.gpus[m])] = False
            target = plan.choose(m, crowd, fitting)
            if target is not None:
                relief = float(crowd[list(plan.gpus[m])].max() - busy[m] - crowd[list(target)].max())
                if relief > self.relief and (best is None or relief * busy[m] > best[0]):
                    best = (relief * float(busy[m]), m, target)
        if best is not None:
            plan.migrate(best[1], best[2])

    def _load_ahead(self, plan: Plan, view: View) -> None:
        """Bring the model whose absence is expected to cost most, if memory is free for it and its requests."""
        away = ((plan.state == ABSENT) | ((plan.state == READY) & (plan.resident < 0.001))) & ~plan.moving
        worth = np.where(away & (view.last_active_s > -np.inf), self.expecting.rate * self._bring_s(plan), 0.0)
        m = int(np.argmax(worth))
        if worth[m] <= 0:
            return
        left = view.free_bytes - self.facts.weight_bytes[m] - longest_bytes(self.facts)[m]
        ample = left > AMPLE * self.facts.memory_bytes
        if plan.state[m] == READY:
            if ample[list(plan.gpus[m])].all() and plan.fits(m, 1.0)[list(plan.gpus[m])].all():
                plan.offload(m, 1.0)
            return
        chosen = plan.choose(m, self._crowd(plan, view), plan.fits(m) & ample)
        if chosen is not None:
            plan.load(m, chosen)

    def _park_the_rest(self, plan: Plan) -> None:
        """Let engines of models that did not fit be up, without layers."""
        for m in np.flatnonzero((plan.state == ABSENT) & self.parks).tolist():
            chosen = plan.choose(m, plan.here.sum(axis=1).astype(float), plan.fits(m, 0.0))
            if chosen is not None:
                plan.load(m, chosen, 0.0)
