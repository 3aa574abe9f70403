"""What is to come, by model: only one that plans with hindsight may look at it."""

import numpy as np

from toolkit.placing import Facts, Floats, Ints

BINS = 100_000  # of the trace's span, at most: how finely what is to come is counted


class Future:
    """Arrivals to come, by model; where a replay's sessions delay them, the trace's own times."""

    def __init__(self, facts: Facts, horizon_s: float):
        ends = np.cumsum([len(times) + 1 for times in facts.future])
        self._first = ends - np.array([len(times) + 1 for times in facts.future])
        self._times = np.concatenate([np.append(times, np.inf) for times in facts.future])
        last_s = max((float(times[-1]) for times in facts.future if len(times)), default=0.0)
        self.bin_s = max(0.5, last_s / BINS)
        bins = int(last_s / self.bin_s) + 1
        counts = [np.bincount((times / self.bin_s).astype(int), minlength=bins) for times in facts.future]
        self._before = np.vstack([np.zeros(len(counts)), np.cumsum(np.stack(counts, axis=1), axis=0)])
        self._ahead = np.arange(max(1, round(horizon_s / self.bin_s)))[:, None]

    def next_s(self, now_s: float, arrived: Ints) -> Floats:
        """[m] when the next request comes; infinite: none does."""
        at: Floats = np.maximum(self._times[self._first + arrived], now_s)
        return at

    def present(self, now_s: float, here: Ints, stay_s: Floats) -> Floats:
        """[bin, m] requests there within the horizon, if each stays for `stay_s` and `here` are there now."""
        last, stay = len(self._before) - 1, np.maximum(1, np.ceil(stay_s / self.bin_s)).astype(int)
        now = int(now_s / self.bin_s)
        until = np.minimum(now + 1 + self._ahead, last)
        since = np.clip(now + 1 + self._ahead - stay, min(now, last), last)
        models = np.arange(len(stay))
        coming = self._before[until, models] - self._before[since, models]
        there: Floats = np.maximum(coming, np.where(self._ahead < stay, here, 0))
        return there
