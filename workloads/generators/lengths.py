"""Token counts: a distribution's quantile function, so that prompt and output can be drawn together."""

from dataclasses import dataclass
from functools import cached_property
from math import gamma as gamma_function
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workloads.generators.renewal import weibull_shape

Floats = NDArray[np.float64]
GRID = np.linspace(-6.0, 6.0, 6_001)  # standard scores at which other families are tabulated
LONGEST = 2**31 - 1


@dataclass(frozen=True)
class Lengths:
    """Token counts: lognormal by `median` and `sigma` (of the log), gamma or Weibull by `mean` and `cv`, or tabulated.

    `quantiles` are values at evenly spaced probabilities from 0 to 1, read off by straight lines.
    """

    family: Literal["lognormal", "gamma", "weibull", "fixed", "quantiles"] = "lognormal"
    median: float | None = None
    sigma: float | None = None
    mean: float | None = None
    cv: float | None = None
    value: float | None = None
    quantiles: tuple[float, ...] = ()
    minimum: int = 1
    maximum: int = 131_072

    def __post_init__(self) -> None:
        for name in NEEDED[self.family]:
            value = getattr(self, name)
            if value is None or value == ():
                raise ValueError(f"a {self.family} length needs {' and '.join(NEEDED[self.family])}")
            least = 0 if name in ("quantiles", "value") else 1e-9
            if min(value if isinstance(value, tuple) else (value,)) < least:
                raise ValueError(f"{name} must be {'above 0' if least else '0 or more'}")
        unused = [n for names in NEEDED.values() for n in names if n not in NEEDED[self.family] and getattr(self, n)]
        if unused:
            raise ValueError(f"a {self.family} length has no {unused[0]}")
        if not 0 <= self.minimum <= self.maximum <= LONGEST:
            raise ValueError(f"minimum and maximum must be 0 ≤ minimum ≤ maximum ≤ {LONGEST}")
        if list(self.quantiles) != sorted(self.quantiles) or len(self.quantiles) == 1:
            raise ValueError("quantiles must ascend, two or more")

    def at(self, scores: Floats, spread: Floats | float = 1.0) -> Floats:
        """Lengths, not yet rounded, at standard normal `scores`; `spread` multiplies sigma and keeps the mean."""
        if self.family == "fixed":
            return np.full(len(scores), float(self.value or 0))
        if self.family == "lognormal":
            assert self.median is not None
            assert self.sigma is not None
            kept = self.sigma**2 / 2 * (1 - np.square(spread))
            drawn: Floats = np.exp(np.log(self.median) + kept + self.sigma * spread * scores)
            return drawn
        return np.interp(scores, GRID, self._table)

    def whole(self, lengths: Floats) -> Floats:
        """Rounded and within bounds."""
        bounded: Floats = np.clip(np.rint(lengths), self.minimum, self.maximum)
        return bounded

    @cached_property
    def _table(self) -> Floats:
        """Values at the scores of GRID."""
        from scipy.special import gammaincinv, ndtr

        p: Floats = ndtr(GRID)
        if self.family == "quantiles":
            return np.interp(p, np.linspace(0, 1, len(self.quantiles)), self.quantiles)
        assert self.mean is not None
        assert self.cv is not None
        if self.family == "gamma":
            found: Floats = gammaincinv(self.cv**-2, p) * self.mean * self.cv**2
            return found
        k = weibull_shape(self.cv)
        return self.mean / gamma_function(1 + 1 / k) * (-np.log1p(-p)) ** (1 / k)


NEEDED: dict[str, tuple[str, ...]] = {
    "lognormal": ("median", "sigma"),
    "gamma": ("mean", "cv"),
    "weibull": ("mean", "cv"),
    "fixed": ("value",),
    "quantiles": ("quantiles",),
}


def lengths(given: "Lengths | int") -> Lengths:
    """The distribution a setting stands for: a whole number is always that long."""
    if isinstance(given, int) and not 0 <= given <= LONGEST:
        raise ValueError(f"{given} tokens: a length must be from 0 to {LONGEST}")
    return Lengths("fixed", value=float(given), minimum=0, maximum=LONGEST) if isinstance(given, int) else given
