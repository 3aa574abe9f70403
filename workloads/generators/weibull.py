"""Renewal arrivals with Weibull gaps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps
from workloads.generators.single import planted, positive


@dataclass(frozen=True)
class Weibull:
    """Weibull gaps of a coefficient of variation `cv`: above 1 a heavier tail of silences than gamma gaps have."""

    gives: ClassVar[frozenset[str]] = frozenset()

    rate_per_s: float
    cv: float

    def __post_init__(self) -> None:
        positive(rate_per_s=self.rate_per_s)
        if not 0.02 <= self.cv <= 50:
            raise ValueError("cv must be from 0.02 to 50")

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        return planted(self.rate_per_s, Gaps("weibull", self.cv), (factor,), rng)
