"""Who sends and what is asked: names with their shares, by popularity."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Names:
    """Names and shares: given outright, or `count` of them, the r-th popular in proportion to r to the −`zipf`."""

    count: int = 0
    zipf: float = 0.0
    name: str = "{}"
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.count) == bool(self.shares):
            raise ValueError("give either count (and zipf) or shares")
        if self.count < 0 or any(share < 0 for share in self.shares.values()) or sum(self.weights) <= 0:
            raise ValueError("count and shares must be 0 or more, and not all 0")
        if self.count and "{}" not in self.name:
            raise ValueError("name needs {} where the number goes")

    @property
    def all(self) -> list[str]:
        return list(self.shares) or [self.name.replace("{}", str(i)) for i in range(self.count)]

    @property
    def weights(self) -> Floats:
        """Shares as given or in proportion, not yet of sum 1."""
        if self.shares:
            return np.array(list(self.shares.values()), dtype=np.float64)
        weights: Floats = np.power(np.arange(1, self.count + 1, dtype=np.float64), -self.zipf)
        return weights

    @property
    def probabilities(self) -> Floats:
        shares: Floats = self.weights / self.weights.sum()
        return shares


def named(given: "Names | str", prefix: str) -> Names:
    """The names a setting stands for: one name, or many whose pattern is `prefix` where none was given."""
    if isinstance(given, str):
        return Names(shares={given: 1.0})
    pattern = f"{prefix}-{{}}" if given.name == "{}" else given.name
    return given if given.shares else Names(given.count, given.zipf, pattern)


def pick(probabilities: Floats, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """`n` positions, each with its probability."""
    cumulative = np.cumsum(probabilities)
    return np.searchsorted(cumulative / cumulative[-1], rng.random(n), side="right").astype(np.int64)
