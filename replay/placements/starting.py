"""What is loaded before the first request, by average rates."""

from typing import Literal

import numpy as np

from replay.placements.plan import Plan
from toolkit.errors import SettingFailure
from toolkit.placing import Facts, Floats

Start = Literal["rate", "empty"]


def checked(start: str, who: str) -> None:
    """Refuse what is no Start."""
    if start not in ("rate", "empty"):
        raise SettingFailure(f"'{start}' is neither rate nor empty", where=f"{who}:start")


def above_zero(who: str, **settings: float) -> None:
    """Refuse a setting of nothing, or of less."""
    for name, value in settings.items():
        if not value > 0:
            raise SettingFailure(f"{value:g} is not above 0", where=f"{who}:{name}")


def not_negative(who: str, **settings: float) -> None:
    """Refuse a setting of less than nothing."""
    for name, value in settings.items():
        if not value >= 0:
            raise SettingFailure(f"{value:g} is below 0", where=f"{who}:{name}")


def kv_rate(facts: Facts) -> Floats:
    """[m] KV bytes a second that a model's requests bring to each of its GPUs."""
    made: Floats = facts.tokens_per_s * facts.kv_bytes_per_token
    return made


def refuse_misfits(facts: Facts, least_kv_share: float, who: str) -> None:
    """SettingFailure with the arithmetic for a model that cannot be loaded even into an empty cluster."""
    empty = Plan(facts, least_kv_share=least_kv_share, but_long=True)
    for m, name in enumerate(facts.models):
        fitting = int(empty.fits(m).sum())
        if fitting < facts.width[m]:
            need, most = facts.weight_bytes[m] / 2**30, empty.most_bytes.max() / 2**30
            raise SettingFailure(
                f"model {name} fits on {fitting} GPUs and needs {facts.width[m]}: {need:.1f} GiB of weights on each, "
                f"of which {most:.1f} GiB may be taken when {least_kv_share:.0%} are left for KV",
                where=f"placement {who}",
                hint="raise its tensor_parallel, or give larger GPUs",
            )


def start(plan: Plan, how: str, exclusive: bool = False) -> None:
    """Load what fits, most requests first, each where the least KV comes a second for the KV memory there is.

    `exclusive`: one model a GPU.
    """
    if how == "empty":
        return
    facts, load = plan.facts, np.zeros(len(plan.weights))
    for m in np.argsort(-facts.requests_per_s, kind="stable").tolist():
        if facts.requests_per_s[m] == 0:
            break
        fitting = plan.fits(m)
        if exclusive:
            fitting &= plan.weights == 0
        chosen = plan.choose(m, pressure(plan, load), fitting)
        if chosen is not None:
            load[list(chosen)] += kv_rate(facts)[m]
            plan.load(m, chosen)


def pressure(plan: Plan, load: Floats) -> Floats:
    """[g] `load` for each byte of KV memory; weights tell GPUs without any apart."""
    left = np.maximum(plan.facts.memory_bytes - plan.weights, 1.0)
    against: Floats = load / left + 1e-12 * plan.weights / left
    return against
