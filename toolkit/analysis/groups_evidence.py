"""The family-wise test: every pair, window length and stretch of the trace against the largest score of each draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.groups_null import PARTS, Draws, Pairs

Parts = NDArray[np.int64]
ALPHA = 0.01  # family-wise error of an edge, and of whatever is added to a group
RANGES: tuple[Parts, ...] = tuple(
    np.arange(i * PARTS // n, (i + 1) * PARTS // n) for n in (1, 2, 4) for i in range(n)
)  # the whole trace, its halves, its quarters
HALVES: tuple[Parts, Parts] = (np.arange(0, PARTS, 2), np.arange(1, PARTS, 2))  # interleaved: what changes is in both


@dataclass(frozen=True)
class Evidence:
    """`best` is the scale that told most; `largest` each draw's max statistic; scores are ranges × pairs."""

    scales: Sequence[Draws]
    best: Draws
    scores: Pairs  # largest over the scales
    largest: NDArray[np.float32]

    @property
    def edges(self) -> NDArray[np.bool_]:
        """Ranges × pairs whose score is above the null's at ALPHA."""
        return self.scores > threshold(self.largest)

    def p_value(self, score: float) -> float:
        return float((1 + (self.largest >= score).sum()) / (1 + len(self.largest)))


def weigh(scales: Sequence[Draws]) -> Evidence:
    """Judge all pairs at all scales together."""
    each = np.stack([np.stack([draws.score(parts) for parts in RANGES]) for draws in scales])
    largest = np.max([_largest(draws) for draws in scales], axis=0)
    found = np.where(each > threshold(largest), each, 0).sum(axis=(1, 2))
    best = scales[int(np.argmax(found if found.any() else each.max(axis=(1, 2))))]
    return Evidence(scales, best, each.max(axis=0), largest)


def _largest(draws: Draws) -> NDArray[np.float32]:
    largest: NDArray[np.float32] = np.max([draws.drawn_score(parts).max(axis=1) for parts in RANGES], axis=0)
    return largest


def threshold(largest: NDArray[np.float32], alpha: float = ALPHA) -> float:
    """What a score must be above for (1 + draws as large) / (1 + draws) ≤ `alpha`."""
    allowed = int(alpha * (len(largest) + 1)) - 1
    return float(np.sort(largest)[::-1][allowed]) if allowed >= 0 else float("inf")
