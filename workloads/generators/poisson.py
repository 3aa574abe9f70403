"""Poisson arrivals."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps
from workloads.generators.single import planted, positive


@dataclass(frozen=True)
class Poisson:
    """Independent arrivals at a rate; the gaps are exponential, their coefficient of variation 1."""

    gives: ClassVar[frozenset[str]] = frozenset()

    rate_per_s: float

    def __post_init__(self) -> None:
        positive(rate_per_s=self.rate_per_s)

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        return planted(self.rate_per_s, Gaps("exponential"), (factor,), rng)
