"""How a rate changes by the hour, by the day and once: a factor on it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY_S = 86_400.0
STEP_S = 60.0  # a smooth factor is taken as constant for so long


@dataclass(frozen=True)
class Change:
    """From 0 to 1: at once, over `for_s` (ramp), or for `for_s` and back (pulse)."""

    at_s: float
    shape: Literal["step", "ramp", "pulse"] = "step"
    for_s: float = 0.0

    def __post_init__(self) -> None:
        if self.shape != "step" and self.for_s <= 0:
            raise ValueError(f"a {self.shape} needs for_s above 0")
        if self.at_s < 0:
            raise ValueError(f"at_s is {self.at_s:g}, before the trace begins; it counts from its start")

    def weight(self, time_s: Floats) -> Floats:
        """How much of the change has happened at each time, 0 to 1."""
        if self.shape == "ramp":
            return np.clip((time_s - self.at_s) / self.for_s, 0.0, 1.0)
        past = time_s >= self.at_s
        return (past & (time_s < self.end_s) if self.shape == "pulse" else past).astype(np.float64)

    @property
    def end_s(self) -> float:
        return self.at_s + self.for_s if self.shape != "step" else np.inf

    def moments(self) -> list[float]:
        """When it begins and, if it does, ends."""
        return [self.at_s] if self.shape == "step" else [self.at_s, self.end_s]


@dataclass(frozen=True)
class Daily:
    """The rate over a day: a cosine of `amplitude` with its peak at `peak_s`, or 24 factors, scaled to a mean of 1."""

    amplitude: float = 0.5
    peak_s: float = 50_400.0
    hours: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.amplitude <= 1:
            raise ValueError("amplitude must be from 0 to 1")
        if self.hours and (len(self.hours) != 24 or min(self.hours) < 0 or sum(self.hours) == 0):
            raise ValueError("hours must be 24 factors of 0 or more")

    def at(self, time_s: Floats) -> Floats:
        if self.hours:
            return _cycle(self.hours, 3600.0, time_s)
        return 1.0 + self.amplitude * np.cos(2 * np.pi * (time_s - self.peak_s) / DAY_S)


@dataclass(frozen=True)
class RateChange:
    """The rate times `factor` from `at_s` on: a step, a ramp or a pulse."""

    at_s: float
    factor: float
    shape: Literal["step", "ramp", "pulse"] = "step"
    for_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.factor < np.inf:
            raise ValueError("factor must be 0 or more")
        self.change.moments()

    @property
    def change(self) -> Change:
        return Change(self.at_s, self.shape, self.for_s)


@dataclass(frozen=True)
class Rhythm:
    """All that multiplies a rate. `weekly` has seven factors, scaled to a mean of 1; the trace starts on the first."""

    daily: Daily | None = None
    weekly: tuple[float, ...] = ()
    changes: tuple[RateChange, ...] = ()

    def __post_init__(self) -> None:
        if self.weekly and (len(self.weekly) != 7 or min(self.weekly) < 0 or sum(self.weekly) == 0):
            raise ValueError("weekly must be 7 factors of 0 or more")

    def at(self, time_s: Floats) -> Floats:
        """The factor at each time; what moves all the time is held for STEP_S, so that no window sees it otherwise."""
        minute_s = (time_s // STEP_S + 0.5) * STEP_S
        factor = self.daily.at(minute_s) if self.daily else np.ones(len(time_s))
        if self.weekly:
            factor = factor * _cycle(self.weekly, DAY_S, time_s)
        for one in self.changes:
            weight = one.change.weight(minute_s if one.shape == "ramp" else time_s)
            factor = factor * (1 + (one.factor - 1) * weight)
        return factor

    def cuts(self, start_s: float, end_s: float) -> Floats:
        """Every minute where the rate moves all the time, and every change."""
        moves = self.daily is not None or any(one.shape == "ramp" for one in self.changes)
        step_s = STEP_S if moves else DAY_S if self.weekly else None
        moments = np.array([moment for one in self.changes for moment in one.change.moments()])
        if step_s is None:
            return moments
        return np.concatenate([np.arange(np.ceil(start_s / step_s), end_s // step_s + 1) * step_s, moments])


def _cycle(factors: tuple[float, ...], each_s: float, time_s: Floats) -> Floats:
    scaled: Floats = np.asarray(factors) / np.mean(factors)
    return scaled[(time_s // each_s).astype(np.int64) % len(factors)]
