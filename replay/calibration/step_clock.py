"""How many steps an engine has taken by when, as far as what came out of it and a first idea of step times tell.

Steps are short while requests only decode and long while a prompt is prefilled, so a decoding request's tokens do not
come evenly in time; they come evenly by this clock.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.calibration.lives import Lives

Values = NDArray[np.float64]


@dataclass(frozen=True)
class StepClock:
    """`steps` by `times`, both ascending, linear in between."""

    times: Values
    steps: Values

    def at(self, times: Values | float) -> Values:
        return np.asarray(np.interp(times, self.times, self.steps))


def even_clock(lives: Lives) -> StepClock:
    """Of steps that all take the same time."""
    ends = np.array([lives.came.min(initial=0.0), lives.finish.max(initial=1.0)])
    return StepClock(ends, ends)


def prefills_begun(lives: Lives, coefficients: Values, budget: int, instances: int) -> Values:
    """When each prefill began: as the engine says, else so long before the first token as it should take."""
    sequences = _active(lives.first, lives.finish, lives.first) / instances
    context = _active(lives.first, lives.finish, lives.first, lives.prompt + lives.output / 2) / instances
    step = coefficients[0] + coefficients[1] * sequences + coefficients[2] * context
    lasted = np.ceil(lives.computed / budget) * step + coefficients[3] * lives.computed + coefficients[4] * lives.pairs
    return np.where(np.isnan(lives.start), np.maximum(lives.first - lasted, lives.came), lives.start)


def step_clock(lives: Lives, begun: Values, coefficients: Values, budget: int, instances: int) -> StepClock:
    """Of steps that take what `coefficients` say; a prefill from `begun` takes one for each `budget` tokens."""
    times = np.unique(np.concatenate([begun, lives.first, lives.finish]))
    middle = (times[:-1] + times[1:]) / 2
    sequences = _active(lives.first, lives.finish, middle) / instances
    grown = lives.prompt + lives.output / 2
    context = _active(lives.first, lives.finish, middle, grown) / instances
    rate = 1 / np.maximum(coefficients[0] + coefficients[1] * sequences + coefficients[2] * context, 1e-6)
    needed = np.ceil(lives.computed / budget) / np.maximum(lives.first - begun, 1e-9)
    filling = _active(begun, lives.first, middle)
    slowed = _active(begun, lives.first, middle, needed) / np.maximum(filling, 1)
    rate = np.where(filling > 0.5, np.minimum(slowed, rate), rate)
    return StepClock(times, np.concatenate([[0.0], np.cumsum(rate * np.diff(times))]))


def _active(begin: Values, end: Values, at: Values, weight: Values | None = None) -> Values:
    """The number, or the summed weight, of intervals that hold each time."""
    found = np.zeros(len(at))
    for edge, sign in ((begin, 1.0), (end, -1.0)):
        order = np.argsort(edge)
        sums = np.concatenate([[0.0], np.cumsum(np.ones(len(edge)) if weight is None else weight[order])])
        found += sign * sums[np.searchsorted(edge[order], at)]
    return found
