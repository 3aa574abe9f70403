"""Whether a model has been on its GPUs long enough to be taken off with work left."""

import numpy as np
from numpy.typing import NDArray

from toolkit.placing import Floats, View


class Stays:
    """Remembers what each model had produced when it became ready.

    Who is taken off before it has produced a token since has only cost its load; if all were, nobody would ever end.
    """

    def __init__(self, models: int):
        self._since_s = np.zeros(models)
        self._turn_s = np.zeros(models)  # when its turn began
        self._before = np.zeros(models, np.int64)
        self._now = self._before

    def had_a_turn(self, view: View, hold_s: float | Floats) -> NDArray[np.bool_]:
        """[m] there for `hold_s` or more, and has produced tokens since. Ask at every decision."""
        new = ~np.isnan(view.ready_s) & (view.ready_s != self._since_s)
        self._since_s[new], self._before[new] = view.ready_s[new], view.output_tokens[new]
        self._turn_s[new] = view.ready_s[new]
        self._now = view.output_tokens
        had: NDArray[np.bool_] = (self._turn_s + hold_s <= view.now_s) & (view.output_tokens > self._before)
        return had

    def begin_again(self, m: int, now_s: float) -> None:
        """Let a model's turn begin now: its layers are on their way back."""
        self._before[m], self._turn_s[m] = self._now[m], now_s
