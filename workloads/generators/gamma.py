"""Renewal arrivals with gamma gaps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps
from workloads.generators.single import planted, positive


@dataclass(frozen=True)
class Gamma:
    """Gamma gaps of a coefficient of variation `cv`: bursts above 1, even spacing towards 0."""

    gives: ClassVar[frozenset[str]] = frozenset()

    rate_per_s: float
    cv: float

    def __post_init__(self) -> None:
        positive(rate_per_s=self.rate_per_s)
        Gaps("gamma", self.cv)

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        return planted(self.rate_per_s, Gaps("gamma", self.cv), (factor,), rng)
