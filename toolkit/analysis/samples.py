"""A sample of seconds that merges: as they are up to some millions of requests, then to one part in 4,096."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.whole import Whole
from toolkit.counted import Counted

Floats = NDArray[np.float64]
EXACT = 2**21  # requests
DROPPED = 40  # of a double's 52 bits of fraction; 12 stay
SMALLEST = 1e-300


@dataclass(frozen=True)
class Sample:
    """`rounded` values with how often each occurs, and the smallest and the largest as they were."""

    rounded: Counted
    least: float = inf
    most: float = -inf

    @classmethod
    def of(cls, values: Floats, *, exact: bool) -> "Sample":
        """Of values in any order, without any that are unknown."""
        if not len(values):
            return cls(Counted.of(values))
        kept = values if exact else rounded(values)
        return cls(Counted.of(kept), float(values.min()), float(values.max()))

    @staticmethod
    def merged(parts: "Sequence[Sample]") -> "Sample":
        """All parts together."""
        counted = Counted.merged([part.rounded for part in parts])
        return Sample(counted, min(part.least for part in parts), max(part.most for part in parts))

    @property
    def counted(self) -> Counted:
        """The sample, its ends as they were."""
        if not len(self.rounded.values):
            return self.rounded
        values = self.rounded.values.copy()
        values[0], values[-1] = self.least, self.most
        return Counted(values, self.rounded.counts)


def is_exact(whole: Whole) -> bool:
    """Whether seconds of so many requests are kept as they are."""
    return whole.requests <= EXACT


def rounded(values: Floats) -> Floats:
    """Each value as the middle of its bin, a 4,096th or less of the value wide; zero stays."""
    bits = values.view(np.int64) >> DROPPED << DROPPED
    middle = (bits + (1 << (DROPPED - 1))).view(np.float64)
    found: Floats = np.where(np.abs(values) < SMALLEST, 0.0, middle)
    return found
