"""Every model has its place for good (Prism's S-Partition)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from replay.placements.plan import Places, longest_bytes
from replay.placements.spread import spread
from replay.placements.starting import kv_rate
from toolkit.errors import SettingFailure
from toolkit.placing import Action, Facts, Floats, Ints, Load, View


class Static:
    """Models stay where they are put at the start, each with a fixed share of its GPU's KV memory.

    Prism's S-Partition (2505.04021, section 7). Models are placed by the KV bytes a second that their requests bring,
    the most first, where there is most KV memory for it. `kv` shares are `equal`, or in proportion to that `rate`, but
    no less than a model's longest request where that can be. A request that its share cannot hold is rejected; so are
    clusters where not all models fit.
    """

    least_kv_share = 0.05
    elastic = False

    def __init__(self, kv: Literal["equal", "rate"] = "equal"):
        if kv not in ("equal", "rate"):
            raise SettingFailure(f"'{kv}' is neither equal nor rate", where="static:kv")
        self.kv = kv

    def begin(self, facts: Facts) -> Sequence[Action]:
        places = spread(facts, kv_rate(facts), self.least_kv_share)
        kv_bytes = np.full(len(facts.models), np.inf)
        for g in range(len(facts.gpus)):
            here = np.array([m for m, gpus in places.items() if g in gpus], np.int64)
            kv_bytes[here] = np.minimum(kv_bytes[here], self._shares(facts, places, g, here))
        return [Load(m, gpus, kv_bytes=float(kv_bytes[m])) for m, gpus in places.items()]

    def _shares(self, facts: Facts, places: dict[int, Places], g: int, here: Ints) -> Floats:
        """Bytes for each model on a GPU."""
        pool = float(facts.memory_bytes[g] - facts.weight_bytes[here].sum())
        if self.kv == "equal":
            return np.full(len(here), pool / max(len(here), 1))
        rate = kv_rate(facts)[here] + 1e-9
        least = np.minimum(longest_bytes(facts)[here], pool)
        floor = least if least.sum() <= pool else np.zeros(len(here))
        shares: Floats = floor + (pool - floor.sum()) * rate / rate.sum()
        return shares

    def decide(self, view: View) -> Sequence[Action]:
        return []
