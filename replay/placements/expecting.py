"""What to expect of each model: how often it is asked, how long its requests stay, what its absence would cost."""

import numpy as np

from replay.placements.rates import Window
from toolkit.placing import Facts, Floats, View


class Expecting:
    """Rates over a short and a long window, and by Little's law the time that a request stays.

    A model is expected to be asked as often as in the mean of the two windows; one that was not asked in either, as if
    half a request had come in the longer of the long window and its time without one.
    """

    def __init__(self, facts: Facts, short_s: float, long_s: float):
        models = len(facts.models)
        self._short, self._long, self._long_s = Window(short_s), Window(long_s), long_s
        self._present, self._seen_s = np.zeros(models), 0.0
        tokens = facts.tokens_per_s / np.maximum(facts.requests_per_s, 1e-12)
        self._guess_s = tokens * facts.decode_s_per_token
        self.rate: Floats = np.zeros(models)  # [m] requests a second
        self.stay_s: Floats = self._guess_s  # [m] that a request runs: requests running, over requests ended a second
        self.busy: Floats = np.zeros(models)  # [m] the share of time in which it runs anything

    def note(self, view: View) -> None:
        """Take note of what stands."""
        here = view.waiting + view.running
        self.rate = (self._short.rate(view.now_s, view.arrived) + self._long.rate(view.now_s, view.arrived)) / 2
        quiet_s = np.minimum(view.now_s - view.last_active_s, view.now_s)
        self.rate = np.maximum(self.rate, 0.5 / np.maximum(quiet_s, self._long_s))
        self._present += view.running * (view.now_s - self._seen_s)
        self._seen_s = view.now_s
        ended = (view.arrived - here).astype(float)
        self.stay_s = np.where(ended > 0, self._present / np.maximum(ended, 1), self._guess_s)
        self.busy = np.minimum(1.0, self.rate * self.stay_s)

    @property
    def settled(self) -> bool:
        """Whether all requests that came are taken note of."""
        return self._short.settled and self._long.settled
