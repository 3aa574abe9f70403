"""A place for every model, before the replay."""

from collections.abc import Iterable

import numpy as np

from replay.placements.plan import Places, Plan
from toolkit.errors import SettingFailure
from toolkit.placing import Facts, Floats


def spread(facts: Facts, load: Floats, least_kv_share: float = 0.05) -> dict[int, Places]:
    """The GPUs of each model, so that `load` ([m], on each of its GPUs) is spread over the KV memory there is.

    The largest load goes first, where it makes the least for each byte that weights leave, with room for the longest
    request of each model; where that does not bring in all of them, the largest weights do, where they fit best, and
    without that room. SettingFailure with the arithmetic when they do not fit then either.
    """
    by_load = np.lexsort((-facts.weight_bytes, -load)).tolist()
    by_size = np.lexsort((-load, -facts.weight_bytes * facts.width)).tolist()
    wide_first = sorted(by_load, key=lambda m: facts.width[m] == 1)
    for order, tight in ((wide_first, False), (by_size, False), (by_size, True)):
        plan = Plan(facts, least_kv_share=least_kv_share, but_long=tight)
        missing = _fill(plan, order, load, tight)
        if missing is None:
            return dict(enumerate(plan.gpus))
    raise _too_little(plan, missing or 0)


def _fill(plan: Plan, order: Iterable[int], load: Floats, tight: bool) -> int | None:
    """Place models in order; the first that fits nowhere, or None."""
    there = np.zeros(len(plan.weights))
    for m in order:
        left = plan.facts.memory_bytes - plan.weights - plan.facts.weight_bytes[m]
        cost = left if tight else (there + load[m]) / np.maximum(left, 1.0) + 1e-12 * plan.weights
        chosen = plan.choose(m, cost)
        if chosen is None:
            return m
        there[list(chosen)] += load[m]
        plan.load(m, chosen)
    return None


def _too_little(plan: Plan, m: int) -> SettingFailure:
    facts, gib = plan.facts, 2**30
    left = plan.most_bytes - plan.weights
    total = float((facts.weight_bytes * facts.width).sum())
    return SettingFailure(
        f"not all models fit: {facts.models[m]} needs {facts.weight_bytes[m] / gib:.1f} GiB on {facts.width[m]} of "
        f"{len(left)} GPUs, {left.max() / gib:.1f} GiB are left; {len(facts.models)} models have {total / gib:.1f} GiB "
        f"of weights, GPUs take {plan.most_bytes.sum() / gib:.1f} GiB",
        where="placement",
        hint="give more GPUs, or a placement that loads on demand",
    )
