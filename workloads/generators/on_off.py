"""On/off arrivals."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps, Steps
from workloads.generators.single import planted, positive
from workloads.generators.truths import fact

Lasting = Literal["fixed", "exponential", "pareto"]
PARETO_SHAPE = 1.5  # mean, no variance: the aggregate of many such sources is self-similar


@dataclass(frozen=True)
class OnOff:
    """Poisson arrivals (or gamma gaps of `cv`) while on, none while off; `on_s` and `off_s` are mean lengths."""

    gives: ClassVar[frozenset[str]] = frozenset()

    rate_per_s: float
    on_s: float
    off_s: float
    lasting: Lasting = "exponential"
    phase_s: float = 0.0  # with fixed lengths, how far into the cycle the trace starts
    cv: float = 1.0

    def __post_init__(self) -> None:
        positive(rate_per_s=self.rate_per_s, on_s=self.on_s, off_s=self.off_s)
        Gaps("gamma", self.cv)

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        path, of_gaps = rng.spawn(2)
        start_s, end_s = self._intervals(span_s, path)
        on = Steps(
            np.concatenate([[-np.inf], np.stack([start_s, end_s], axis=1).ravel()]),
            np.concatenate([[0.0], np.tile([1.0, 0.0], len(start_s))]),
        )
        gaps = Gaps("exponential") if self.cv == 1 else Gaps("gamma", self.cv)
        intervals = [
            fact(
                "state", name="on", start_s=float(low), end_s=float(high), parameter="rate_per_s", value=self.rate_per_s
            )
            for low, high in zip(start_s, end_s, strict=True)
        ]
        return planted(self.rate_per_s, gaps, (factor, on), of_gaps, intervals)

    def _intervals(self, span_s: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends of being on, within the trace."""
        cycle_s = self.on_s + self.off_s
        begin, on, off = self._begin(cycle_s, rng), np.zeros(0), np.zeros(0)
        while begin + on.sum() + off.sum() < span_s:
            more = 64 + int(1.1 * (span_s - begin - on.sum() - off.sum()) / cycle_s)
            on = np.concatenate([on, self._lengths(self.on_s, more, rng)])
            off = np.concatenate([off, self._lengths(self.off_s, more, rng)])
        start_s = begin + np.concatenate([[0.0], np.cumsum(on + off)[:-1]])
        end_s = np.minimum(start_s + on, span_s)
        inside = (start_s < span_s) & (end_s > 0)
        return np.maximum(start_s[inside], 0.0), end_s[inside]

    def _begin(self, cycle_s: float, rng: np.random.Generator) -> float:
        """When the first cycle starts: so long before the trace that where the trace falls is left to chance."""
        if self.lasting == "fixed":
            return -(self.phase_s % cycle_s)
        return -cycle_s * (16 + 16 * rng.random())

    def _lengths(self, mean_s: float, n: int, rng: np.random.Generator) -> np.ndarray:
        if self.lasting == "fixed":
            return np.full(n, mean_s)
        if self.lasting == "exponential":
            return mean_s * rng.standard_exponential(n)
        return mean_s * (PARETO_SHAPE - 1) / PARETO_SHAPE * (1 + rng.pareto(PARETO_SHAPE, n))
