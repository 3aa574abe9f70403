"""Gaps between a client's requests in a stretch of time, part by part: how they vary, and the first of them."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.lengths import dot

Floats = NDArray[np.float64]
NS = 1e9  # in a second: sums of whole nanoseconds do not depend on the order of adding up


@dataclass(frozen=True)
class Gaps:
    """Requests of one client that follow each other; `head` are the times of the first of the whole stretch."""

    requests: int
    first_s: float
    last_s: float
    total_ns: int
    squares: int
    head: Floats

    @classmethod
    def of(cls, time_s: Floats, heading: int) -> "Gaps":
        """Of ascending times, the first `heading` of which are kept."""
        gaps = np.rint(np.diff(time_s) * NS).astype(np.int64)
        most = int(gaps.max(initial=0))
        first_s, last_s = float(time_s[0]), float(time_s[-1])
        return cls(
            len(time_s), first_s, last_s, int(gaps.sum()), dot(gaps, gaps, most, most), time_s[: max(heading, 0)]
        )

    def joined(self, later: "Gaps") -> "Gaps":
        """With what follows, and the gap between."""
        between = round((later.first_s - self.last_s) * NS)
        return Gaps(
            self.requests + later.requests,
            self.first_s,
            later.last_s,
            self.total_ns + between + later.total_ns,
            self.squares + between**2 + later.squares,
            np.concatenate([self.head, later.head]),
        )

    @property
    def cv(self) -> float | None:
        """Coefficient of variation; null below two gaps, and where all requests come at once."""
        n = self.requests - 1
        if n < 2 or not self.total_ns:
            return None
        return sqrt((n * self.squares - self.total_ns**2) / (n * (n - 1))) * n / self.total_ns
