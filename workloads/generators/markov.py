"""Markov-modulated arrivals."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps, Steps
from workloads.generators.single import planted, positive
from workloads.generators.truths import Row, fact


@dataclass(frozen=True)
class State:
    """A level of the rate and how long it lasts on average (exponentially distributed)."""

    rate_per_s: float
    mean_s: float
    name: str | None = None

    def __post_init__(self) -> None:
        positive(mean_s=self.mean_s)
        if self.rate_per_s < 0:
            raise ValueError("rate_per_s must be 0 or more")


@dataclass(frozen=True)
class Markov:
    """Poisson arrivals (or gamma gaps of `cv`) whose rate jumps between states; any other state is as likely next."""

    gives: ClassVar[frozenset[str]] = frozenset()

    states: tuple[State, ...]
    cv: float = 1.0

    def __post_init__(self) -> None:
        Gaps("gamma", self.cv)
        if len(self.states) < 2 or not any(state.rate_per_s > 0 for state in self.states):
            raise ValueError("states: two or more are needed, one of them with a rate above 0")

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        path, of_gaps = rng.spawn(2)
        state, start_s = walk(np.array([s.mean_s for s in self.states]), span_s, path)
        rates = np.array([s.rate_per_s for s in self.states])
        gaps = Gaps("exponential") if self.cv == 1 else Gaps("gamma", self.cv)
        return planted(1.0, gaps, (factor, Steps(start_s, rates[state])), of_gaps, self._visits(state, start_s, span_s))

    def _visits(self, state: np.ndarray, start_s: np.ndarray, span_s: float) -> list[Row]:
        ends = np.append(start_s[1:], span_s)
        return [
            fact(
                "state", name=self.states[s].name or f"state-{s}", start_s=float(low), end_s=float(high),
                parameter="rate_per_s", value=self.states[s].rate_per_s,
            )
            for s, low, high in zip(state, start_s, ends, strict=True)
        ]  # fmt: skip


def walk(mean_s: np.ndarray, span_s: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """States visited in `span_s` seconds and when each begins; the first is drawn as a passer-by would find it."""
    n, state, start_s = len(mean_s), [int(rng.choice(len(mean_s), p=mean_s / mean_s.sum()))], [0.0]
    while True:
        start_s.append(start_s[-1] + mean_s[state[-1]] * rng.standard_exponential())
        if start_s[-1] >= span_s:
            return np.array(state), np.array(start_s[:-1])
        state.append(int((state[-1] + 1 + rng.integers(n - 1)) % n))
