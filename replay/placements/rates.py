"""How fast counters grew lately."""

from collections import deque

import numpy as np

from toolkit.placing import Floats, Ints

SAMPLES = 32  # kept of a window


class Window:
    """Counters' growth a second over the last `window_s` seconds, or over all the time there was when that is less."""

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
        if now_s >= seen[-1][0] + self.window_s / SAMPLES:
            seen.append((now_s, counts))
        since_s, before = seen[0]
        grown: Floats = (counts - before) / max(now_s - since_s, self.window_s / SAMPLES)
        return grown
