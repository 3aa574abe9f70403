"""Which lane of those that wait is next."""

from collections.abc import Sequence, Sized


class Turns:
    """Lanes are next in a cycle, or, without one, the one that has had the least service (toolkit.protocols).

    `waiting` are the lanes with those who wait in each, as they stand before anybody joins or goes.
    """

    def __init__(self, lanes: int, cycle: Sequence[int], prompt_weight: float, output_weight: float):
        self._cycle, self._prompt_weight, self._output_weight = cycle, prompt_weight, output_weight
        self._served = [0.0] * lanes
        self._place = self._last = 0

    def next(self, waiting: Sequence[Sized]) -> int:
        """The lane that is next; somebody must wait."""
        if len(waiting) == 1:
            return 0
        if self._cycle:
            return self._cycle[self._next_place(waiting)]
        return min((n for n, lane in enumerate(waiting) if lane), key=lambda n: (self._served[n], n))

    def join(self, lane: int, waiting: Sequence[Sized]) -> None:
        """Somebody new comes. A lane that nobody waited in has no claim from before: the least served is its level."""
        if len(waiting) == 1 or waiting[lane]:
            return
        busy = [self._served[n] for n, others in enumerate(waiting) if others] or [self._served[self._last]]
        self._served[lane] = max(self._served[lane], min(busy))

    def take(self, lane: int, prompt_tokens: int, waiting: Sequence[Sized]) -> None:
        """Somebody of a lane goes, and so many tokens of prompt are to be computed."""
        if self._cycle:
            self._place = (self._next_place(waiting) + 1) % len(self._cycle)
        self._last = lane
        self._served[lane] += self._prompt_weight * prompt_tokens

    def served(self, lane: int, output_tokens: int) -> None:
        """Somebody of a lane has produced tokens."""
        self._served[lane] += self._output_weight * output_tokens

    def _next_place(self, waiting: Sequence[Sized]) -> int:
        """Where in the cycle the next lane with anybody in it stands."""
        cycle = self._cycle
        return next(t for k in range(len(cycle)) if waiting[cycle[t := (self._place + k) % len(cycle)]])
