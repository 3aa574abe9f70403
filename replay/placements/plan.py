"""What a placement plans to do, checked as it plans: nothing that the controller would refuse gets into it."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.placing import (
    ABSENT,
    LOADING,
    READY,
    Action,
    Evict,
    Facts,
    Floats,
    Load,
    Migrate,
    Offload,
    Resize,
    View,
    Wait,
)

Mask = NDArray[np.bool_]
Places = tuple[int, ...]
PAGE_BYTES = 2 * 2**20
SHORT = 0.05  # of a GPU's memory: less than this free is next to nothing
SLACK_BYTES = 1.0  # sums of weights in another order may differ by less


def longest_bytes(facts: Facts) -> Floats:
    """[m] KV memory that its longest request surely fits into: blocks and pages are taken whole."""
    enough: Floats = facts.least_kv_bytes + 64 * facts.kv_bytes_per_token + 4 * PAGE_BYTES
    return enough


class Plan:
    """The cluster as it will stand once `actions` are done. Without a view: empty.

    A model fits a GPU where its weights leave `least_kv_share` of the memory, and room for the longest request of each
    model there, its own included; so nobody waits for KV memory that never comes. `but_long` drops the second demand.
    """

    def __init__(self, facts: Facts, view: View | None = None, least_kv_share: float = 0.05, but_long: bool = False):
        models, gpus = len(facts.models), len(facts.gpus)
        self.facts, self.view = facts, view
        self.actions: list[Action] = []
        self.state = np.full(models, ABSENT) if view is None else view.state.copy()
        self.gpus: list[Places] = [()] * models if view is None else list(view.gpus)
        self.resident = np.zeros(models) if view is None else view.resident.copy()
        self.moving = np.zeros(models, bool) if view is None else view.moving.copy()
        self.weights = np.zeros(gpus) if view is None else view.weight_bytes.copy()
        self.most_bytes = facts.memory_bytes * (1 - least_kv_share)
        alone = facts.memory_bytes.max() - facts.weight_bytes - SLACK_BYTES
        self.floor = np.zeros(models) if but_long else np.minimum(longest_bytes(facts), alone)
        self.here = np.zeros((gpus, models), bool)  # who is or will be where; of what moves: where it still serves
        pairs = [(g, m) for m, places in enumerate(self.gpus) for g in places]
        if pairs:
            self.here[tuple(zip(*pairs, strict=True))] = True
        self._kept = (self.here * self.floor).max(axis=1)  # [g] for the longest request of those there

    @property
    def evictable(self) -> Mask:
        """[m] what is ready, and stays where it is."""
        settled: Mask = (self.state == READY) & ~self.moving
        return settled

    def fits(self, m: int, resident: float = 1.0, without: Mask | None = None) -> Mask:
        """[g] where there is room for a share of a model's layers, once those in `without` ([m]) are gone."""
        need = self.facts.weight_bytes[m] * resident + SLACK_BYTES
        weights, kept = self.weights, self._kept
        if without is not None:
            gone = np.flatnonzero(without)
            weights = weights - self.here[:, gone] @ (self.facts.weight_bytes[gone] * self.resident[gone])
            kept = ((self.here & ~without) * self.floor).max(axis=1)
        floor = np.maximum(kept, self.floor[m])
        fitting: Mask = need <= np.minimum(self.most_bytes, self.facts.memory_bytes - floor) - weights
        return fitting

    def choose(self, m: int, cost: Floats, fitting: Mask | None = None) -> Places | None:
        """The cheapest GPUs for a model among those that fit it, on one host where that can be; None: too few fit."""
        fitting = self.fits(m) if fitting is None else fitting
        return together(np.flatnonzero(fitting), cost, self.facts.host, int(self.facts.width[m]))

    def load(self, m: int, gpus: Places, resident: float = 1.0, kv_bytes: float | None = None) -> None:
        self.actions.append(Load(m, gpus, resident, kv_bytes))
        self.state[m], self.gpus[m], self.resident[m] = LOADING, gpus, resident
        self._weigh(m, gpus, resident)

    def evict(self, m: int) -> None:
        self.actions.append(Evict(m))
        self.weights[list(self.gpus[m])] -= self.facts.weight_bytes[m] * self.resident[m]
        self.here[:, m] = False
        self._kept = (self.here * self.floor).max(axis=1)
        self.state[m], self.gpus[m], self.resident[m] = ABSENT, (), 0.0

    def migrate(self, m: int, gpus: Places) -> None:
        self.actions.append(Migrate(m, gpus))
        self.moving[m] = True
        self._weigh(m, gpus, float(self.resident[m]))

    def resize(self, m: int, kv_bytes: float | None) -> None:
        self.actions.append(Resize(m, kv_bytes))

    def offload(self, m: int, resident: float) -> None:
        self.actions.append(Offload(m, resident))
        self.weights[list(self.gpus[m])] += self.facts.weight_bytes[m] * (resident - self.resident[m])
        self.resident[m] = resident

    def wait(self) -> None:
        self.actions.append(Wait())

    def _weigh(self, m: int, gpus: Places, resident: float) -> None:
        self.weights[list(gpus)] += self.facts.weight_bytes[m] * resident
        self.here[list(gpus), m] = True
        self._kept[list(gpus)] = np.maximum(self._kept[list(gpus)], self.floor[m])


def together(gpus: NDArray[np.int64], cost: Floats, host: NDArray[np.int64], width: int) -> Places | None:
    """The `width` cheapest of `gpus`, of the host where the dearest of them is cheapest; of any, where none has all."""
    if len(gpus) < width:
        return None
    ordered = gpus[np.lexsort((gpus, cost[gpus]))]
    if width == 1:
        return (int(ordered[0]),)
    best: NDArray[np.int64] | None = None
    for h in dict.fromkeys(host[ordered].tolist()):
        mine = ordered[host[ordered] == h][:width]
        if len(mine) == width and (best is None or cost[mine[-1]] < cost[best[-1]]):
            best = mine
    return tuple(sorted(int(g) for g in (ordered[:width] if best is None else best)))


def make_room(plan: Plan, m: int, victims: Sequence[int], cost: Floats) -> Places | None:
    """GPUs for a model once as few of `victims` as it takes are evicted, the first ones first.

    Their evictions are planned then; where even all of them make no room, nothing is, and the answer is None.
    """
    if _chosen(plan, m, victims, cost) is None:
        return None
    counts = range(len(victims))
    least = bisect_left(counts, True, key=lambda count: _chosen(plan, m, victims[:count], cost) is not None)
    gone = list(victims[:least])
    chosen = _chosen(plan, m, gone, cost)
    assert chosen is not None
    gone = [v for v in gone if set(plan.gpus[v]) & set(chosen)]
    for victim in reversed(gone[:]):
        others = [v for v in gone if v != victim]
        if plan.fits(m, without=_mask(plan, others))[list(chosen)].all():
            gone = others
    for victim in gone:
        plan.evict(victim)
    return chosen


def _chosen(plan: Plan, m: int, gone: Sequence[int], cost: Floats) -> Places | None:
    return plan.choose(m, cost, plan.fits(m, without=_mask(plan, gone)) if gone else None)


def _mask(plan: Plan, models: Sequence[int]) -> Mask:
    mask = np.zeros(len(plan.state), bool)
    mask[list(models)] = True
    return mask


def asked_for(view: View) -> list[int]:
    """Models that are nowhere and have requests, the one that waits longest first."""
    asked = np.flatnonzero((view.state == ABSENT) & (view.waiting > 0))
    ordered: list[int] = asked[np.argsort(view.oldest_s[asked], kind="stable")].tolist()
    return ordered


def idle(plan: Plan, view: View) -> Mask:
    """[m] ready models without requests."""
    resting: Mask = plan.evictable & (view.waiting + view.running == 0)
    return resting


def short(plan: Plan, view: View) -> Mask:
    """[g] where KV memory is constrained: requests wait, and next to nothing is free."""
    queued = plan.here @ ((view.state == READY) & (view.waiting > 0))
    constrained: Mask = queued & (view.free_bytes < SHORT * plan.facts.memory_bytes)
    return constrained


def relieve(plan: Plan, view: View) -> None:
    """Answer a `memory` call: evict one that does nothing beside the model, the least recently used first.

    While there is none but one is on its way, the request waits until that has come.
    """
    others = np.arange(len(plan.state)) != view.model
    beside: Mask = plan.here[list(plan.gpus[view.model])].any(axis=0) & others
    resting = np.flatnonzero(beside & plan.evictable & (view.running == 0)).tolist()
    if resting:
        plan.evict(min(resting, key=lambda o: (view.waiting[o] > 0, view.last_active_s[o], o)))
    elif (beside & ((plan.state == LOADING) | plan.moving)).any():
        plan.wait()
