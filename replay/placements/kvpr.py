"""KV pressure: how fast KV memory is asked for, for each byte of it that a GPU has beside weights (Prism)."""

from dataclasses import dataclass

import numpy as np

from replay.placements.plan import Places, Plan
from replay.placements.rates import Window
from toolkit.placing import Facts, Floats, View

TIE = 1e-12  # lets GPUs without any pressure be told apart by their weights


class Demand:
    """w_token_rate: tokens a second over a window × bytes a token / TPOT objective, on each of a model's GPUs.

    Tokens are those computed in prefills and those produced. Where there is no objective, `slo_tpot_s` stands for it.
    """

    def __init__(self, facts: Facts, window_s: float, slo_tpot_s: float):
        objective = np.where(np.isnan(facts.slo_tpot_s), slo_tpot_s, facts.slo_tpot_s)
        self._weight = facts.kv_bytes_per_token / objective
        self._tokens = Window(window_s)

    def now(self, view: View) -> Floats:
        """[m] bytes a second per second of the objective."""
        made: Floats = self._tokens.rate(view.now_s, view.prompt_tokens + view.output_tokens) * self._weight
        return made

    @property
    def settled(self) -> bool:
        """Whether all tokens that were computed are taken note of."""
        return self._tokens.settled


@dataclass(frozen=True)
class Pressed:
    """What stands on the GPUs of a plan: demand ([g]), and the bytes that weights leave to it ([g])."""

    load: Floats
    left: Floats
    tie: Floats

    @classmethod
    def of(cls, plan: Plan, demand: Floats) -> "Pressed":
        memory = plan.facts.memory_bytes
        return cls(plan.here @ demand, memory - plan.weights, TIE * plan.weights / memory)

    def ratios(self, demand: float = 0.0, weight_bytes: float = 0.0) -> Floats:
        """[g] demand for each byte left, as if one more model were there, with its demand and weights."""
        load, left = self.load + demand, self.left - weight_bytes
        against: Floats = np.where(left > 0, load / np.maximum(left, 1.0), np.inf)
        return np.minimum(against, 1e300) + self.tie


def rebalanced(plan: Plan, demand: Floats, tau: float, after: bool) -> dict[int, Places]:
    """Algorithm 1: where each model would move, of those that would.

    GPUs fill from empty, the largest demand first, without those that nobody asks for. A model leaves where it is when
    the pressure there exceeds that of the best GPU by more than `tau`; pressures are of what was placed before it, or
    with it (`after`). A model over several GPUs takes the best of those it is not on, and is judged by the worst of
    either: a part of it cannot move.
    """
    facts, moves = plan.facts, {}
    shared, load = facts.memory_bytes.copy(), np.zeros(len(plan.weights))
    settled = np.flatnonzero(plan.evictable & (demand > 0))
    for m in settled[np.argsort(-demand[settled], kind="stable")].tolist():
        weight, mine = float(facts.weight_bytes[m]), float(demand[m])
        pressure = _pressures(load + mine, shared - weight) if after else _pressures(load, shared)
        target, worst = plan.gpus[m], max(pressure[g] for g in plan.gpus[m])
        if worst - pressure.min() > tau:
            elsewhere = plan.fits(m) & (shared > weight)
            elsewhere[list(target)] = False
            best = plan.choose(m, pressure, elsewhere)
            if best is not None and worst - max(pressure[g] for g in best) > tau:
                target = moves[m] = best
        for g in target:
            load[g] += mine
            shared[g] -= weight
    return moves


def _pressures(load: Floats, shared: Floats) -> Floats:
    found: Floats = np.where(shared > 1, load / np.maximum(shared, 1.0), 1e300)
    return found
