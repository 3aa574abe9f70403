"""DistBoost: UniBoost's first phase, with a queue of its own for prefills."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.boosted import Boosted
from replay.schedulers.boosting import boost_s
from toolkit.protocols import Preemption


class DistBoost(Boosted):
    """Prefills by arrival less the boost of their prompt; decodes by when they started to decode, and first in a step.

    UniBoost's phase 1 (2606.18431). The decode queue shows when memory runs out: who started to decode last loses its
    place. A waiting prefill breaks in wherever the step has tokens and memory left (the paper's rule is not stated).
    """

    preemption = Preemption(victim="latest")

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        self.learn(requests)
        prompt_s = self.costs.prefill_s_per_token * np.maximum(requests["prompt_tokens"].fill_null(1).to_numpy(), 1)
        return requests["arrival_s"].to_numpy() - boost_s(prompt_s, self.gamma)
