"""How fast counters grew lately."""

from collections import deque

import numpy as np

from toolkit.placing import Floats, Ints

SAMPLES = 32  # kept of a window


class Window:
    """Counters' growth a second over the last `window_s` seconds, or over all the time there was when that is less.

    They are kept when they have grown, no more than SAMPLES times a window; so who is not asked while nothing grows
    gives the same rates afterwards.
    """

    def __init__(self, window_s: float):
        self.window_s = window_s
        self._seen: deque[tuple[float, Ints]] = deque()

    def rate(self, now_s: float, counts: Ints) -> Floats:
        """Take note of the counters, and give their rates; zeros at first."""
        seen = self._seen
        while len(seen) > 1 and seen[1][0] <= now_s - self.window_s:
            seen.popleft()
        if not seen:
            seen.append((0.0, np.zeros_like(counts)))
        self._last = counts
        if now_s >= seen[-1][0] + self.window_s / SAMPLES and not self.settled:
            seen.append((now_s, counts))
        least_s = self.window_s / SAMPLES
        grown: Floats = (counts - seen[0][1]) / min(max(now_s, least_s), self.window_s)
        return grown

    @property
    def settled(self) -> bool:
        """Whether what was seen last is kept."""
        return bool(self._seen) and np.array_equal(self._seen[-1][1], self._last)
