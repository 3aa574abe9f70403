"""Every model has its place for good (Prism's S-Partition)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from toolkit.errors import SettingFailure
from toolkit.placing import Action, Facts, Load, View


class Static:
    """Models stay where they are put at the start, largest load first, each with a fixed share of the KV memory.

    Prism's S-Partition (2505.04021, section 7): `kv` shares of a GPU are `equal`, or in `rate` proportion to the KV
    bytes that a model's requests bring. A model goes to the GPU with the least load (tokens times bytes per token) of
    those that have room. One model on a GPU has all of it.
    """

    def __init__(self, kv: Literal["equal", "rate"] = "equal"):
        if kv not in ("equal", "rate"):
            raise SettingFailure(f"'{kv}' is neither equal nor rate", where="static:kv")
        self.kv = kv

    def begin(self, facts: Facts) -> Sequence[Action]:
        places = spread(facts)
        share = np.ones(len(facts.models)) if self.kv == "equal" else np.maximum(_load(facts), 1e-9)
        loads = []
        for m, gpus in places.items():
            left = min(self._kv_of(facts, places, share, m, g) for g in gpus)
            loads.append(Load(m, gpus, kv_bytes=left))
        return loads

    def _kv_of(self, facts: Facts, places: dict[int, tuple[int, ...]], share: object, m: int, g: int) -> float:
        here = [o for o, gpus in places.items() if g in gpus]
        free = facts.memory_bytes[g] - facts.weight_bytes[here].sum()
        shares = np.asarray(share)
        return float(free * shares[m] / shares[here].sum())

    def decide(self, view: View) -> Sequence[Action]:
        return []


def _load(facts: Facts) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[m] KV bytes a second that a model's requests bring."""
    made: np.ndarray[tuple[int], np.dtype[np.float64]] = facts.tokens_per_s * facts.kv_bytes_per_token
    return made


def spread(facts: Facts, least_kv_share: float = 0.05) -> dict[int, tuple[int, ...]]:
    """The GPUs of each model: largest weights first, each where the least load is and they fit.

    SettingFailure with the arithmetic when they do not all fit.
    """
    free = facts.memory_bytes * (1 - least_kv_share)
    load = np.zeros(len(facts.gpus))
    places: dict[int, tuple[int, ...]] = {}
    for m in np.lexsort((-_load(facts), -facts.weight_bytes * facts.width)).tolist():
        fits = [g for g in range(len(free)) if free[g] >= facts.weight_bytes[m]]
        width = int(facts.width[m])
        if len(fits) < width:
            need, have = facts.weight_bytes[m] / 2**30, free.max() / 2**30
            raise SettingFailure(
                f"not all models fit: {facts.models[m]} needs {need:.1f} GiB on {width} GPUs, {have:.1f} GiB are left",
                where="placement",
                hint="give more GPUs, or a placement that loads on demand",
            )
        chosen = sorted(sorted(fits, key=lambda g: (load[g], -free[g], g))[:width])
        free[chosen] -= facts.weight_bytes[m]
        load[chosen] += _load(facts)[m]
        places[m] = tuple(chosen)
    return places
