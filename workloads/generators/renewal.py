"""Arrivals whose gaps are independent in operational time: the time that runs as fast as the rate."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, lgamma, log, log1p
from math import gamma as gamma_function
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.protocols import RateFactor

Floats = NDArray[np.float64]
Family = Literal["exponential", "gamma", "weibull"]


@dataclass(frozen=True)
class Gaps:
    """Gaps of mean 1 and coefficient of variation `cv`."""

    family: Family
    cv: float = 1.0

    def __post_init__(self) -> None:
        if not 0.02 <= self.cv <= 100:
            raise ValueError("cv must be from 0.02 to 100")

    @cached_property
    def shape(self) -> float:
        return weibull_shape(self.cv) if self.family == "weibull" else self.cv**-2

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        if self.family == "exponential":
            return rng.standard_exponential(n)
        if self.family == "gamma":
            return rng.standard_gamma(self.shape, n) / self.shape
        return rng.weibull(self.shape, n) / gamma_function(1 + 1 / self.shape)

    def first(self, rng: np.random.Generator) -> float:
        """From any moment to the next arrival, as one who comes by finds it: a share of a length-biased gap."""
        if self.family == "exponential":
            return float(rng.standard_exponential())
        if self.family == "gamma":
            return float(rng.random() * rng.standard_gamma(self.shape + 1) / self.shape)
        biased = float(rng.standard_gamma(1 + 1 / self.shape)) ** (1 / self.shape)
        return float(rng.random() * biased / gamma_function(1 + 1 / self.shape))


@dataclass(frozen=True)
class Sampled:
    """Gaps drawn again from ascending `values`, scaled to mean 1."""

    values: Floats

    @cached_property
    def cv(self) -> float:
        return float(self.values.std() / self.values.mean())

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """Between neighbouring values, so that no gap comes back exactly."""
        at = np.interp(rng.random(n) * (len(self.values) - 1), np.arange(len(self.values)), self.values)
        return at / self._mean

    def first(self, rng: np.random.Generator) -> float:
        """A share of a length-biased gap."""
        biased = np.searchsorted(np.cumsum(self.values), rng.random() * self.values.sum())
        return float(rng.random() * self.values[biased] / self._mean)

    @cached_property
    def _mean(self) -> float:
        """Of what `draw` draws: of the straight lines between the values."""
        return float((self.values[1:] + self.values[:-1]).mean() / 2)


def weibull_shape(cv: float) -> float:
    """The shape k of a Weibull distribution with this coefficient of variation, which falls as k grows."""
    low, high = log(0.05), log(200.0)
    for _ in range(60):
        k = exp((low + high) / 2)
        if lgamma(1 + 2 / k) - 2 * lgamma(1 + 1 / k) > log1p(cv**2):
            low = log(k)
        else:
            high = log(k)
    return exp((low + high) / 2)


@dataclass(frozen=True)
class Steps:
    """A level that changes at `time_s`: `level[i]` holds from `time_s[i]` to the next; `time_s[0]` is 0."""

    time_s: Floats
    level: Floats

    def at(self, time_s: Floats) -> Floats:
        return self.level[np.searchsorted(self.time_s, time_s, side="right") - 1]

    def cuts(self, start_s: float, end_s: float) -> Floats:
        low, high = np.searchsorted(self.time_s, (start_s, end_s))
        return self.time_s[low:high]


@dataclass(frozen=True)
class Intensity:
    """A rate over time: what `rate` says (requests/s at given times), constant between the cuts of its parts."""

    rate: Callable[[Floats], Floats]
    parts: Sequence[RateFactor]

    def over(self, start_s: float, end_s: float) -> tuple[Floats, Floats]:
        """Times from start to end and the requests expected up to each."""
        inner = np.concatenate([part.cuts(start_s, end_s) for part in self.parts] + [np.array([start_s, end_s])])
        cuts = np.unique(inner[(inner >= start_s) & (inner <= end_s)])
        expected = self.rate((cuts[1:] + cuts[:-1]) / 2) * np.diff(cuts)
        return cuts, np.concatenate([[0.0], np.cumsum(expected)])


def steady(rate_per_s: float, *parts: RateFactor) -> Intensity:
    """`rate_per_s` times the product of `parts`."""

    def rate(time_s: Floats) -> Floats:
        level = np.full(len(time_s), rate_per_s)
        for part in parts:
            level = level * part.at(time_s)
        return level

    return Intensity(rate, parts)


def renewal(
    edges: Iterable[float], intensity: Intensity, gaps: Gaps | Sampled, rng: np.random.Generator
) -> Iterator[Floats]:
    """The arrivals up to each edge, ascending. The process goes on across edges and is stationary from the start."""
    start_s, ahead = 0.0, np.array([gaps.first(rng)])  # arrivals to come, in operational time from `start_s`
    for end_s in edges:
        time_s, expected = intensity.over(start_s, end_s)
        while ahead[-1] < expected[-1]:
            missing = expected[-1] - ahead[-1]
            more = gaps.draw(rng, int(missing + 4 * gaps.cv * missing**0.5) + 8)
            ahead = np.concatenate([ahead, ahead[-1] + np.cumsum(more)])
        inside = np.searchsorted(ahead, expected[-1])
        yield np.interp(ahead[:inside], expected, time_s)
        ahead, start_s = ahead[inside:] - expected[-1], end_s
