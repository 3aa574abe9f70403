"""Traffic with and without groups that burst together, whose truth is known: NumPy arrays from a seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_S = 86400.0


@dataclass(frozen=True)
class Planted:
    """Requests in arrival order; `label` is a model's group, −1 for none, before and after `change_s`."""

    arrival_s: NDArray[np.float64]
    model: NDArray[np.int64]
    label: NDArray[np.int64]
    label_after: NDArray[np.int64]
    change_s: float | None = None


@dataclass(frozen=True)
class Setting:
    """What is planted. `background`: share of a member's requests that come outside bursts."""

    groups: int = 4
    size: int = 5
    loners: int = 10
    hours: float = 24.0
    bursts_per_h: float = 3.0
    burst_s: float = 120.0
    per_burst: float = 12.0  # requests of a member in a burst
    jitter_s: float = 20.0  # standard deviation of a member's start against the group's
    participation: float = 0.8
    background: float = 0.5
    moved: int = 0  # members that go to the next group at half time
    diurnal: float = 0.0


def planted(setting: Setting, seed: int) -> Planted:
    """Groups burst at Poisson times, loners at times of their own; all have a Poisson background."""
    rng = np.random.default_rng(seed)
    s, span_s = setting, setting.hours * 3600
    models = s.groups * s.size + s.loners
    label = np.concatenate([np.repeat(np.arange(s.groups), s.size), np.full(s.loners, -1)])
    later = label.copy()
    for i in range(s.moved):
        later[(i % s.groups) * s.size + i // s.groups] = (i % s.groups + 1) % s.groups
    times, who = [], []
    group_bursts = [_starts(rng, s, span_s) for _ in range(s.groups)]
    for m in range(models):
        halves = ((label[m], 0, span_s / 2), (later[m], span_s / 2, span_s))
        parts = []
        for group, begin, end in halves:
            own = group_bursts[group] if group >= 0 else _starts(rng, s, span_s)
            kept = own[(own >= begin) & (own < end)]
            parts.append(kept[rng.random(len(kept)) < s.participation])
        start = np.concatenate(parts)
        start = start + rng.normal(0, s.jitter_s, len(start))
        count = rng.poisson(s.per_burst, len(start))
        burst = np.repeat(start, count) + rng.random(count.sum()) * s.burst_s
        expected = s.bursts_per_h * s.hours * s.participation * s.per_burst * s.background / max(1 - s.background, 1e-9)
        parts = np.concatenate([burst, _load(rng, rng.poisson(expected), span_s, s.diurnal)])
        parts = parts[(parts >= 0) & (parts < span_s)]
        times.append(parts)
        who.append(np.full(len(parts), m))
    arrival_s, model = np.concatenate(times), np.concatenate(who)
    order = np.argsort(arrival_s, kind="stable")
    return Planted(arrival_s[order], model[order], label, later, span_s / 2 if s.moved else None)


def _starts(rng: np.random.Generator, s: Setting, span_s: float) -> NDArray[np.float64]:
    starts = rng.random(rng.poisson(s.bursts_per_h * s.hours)) * span_s
    if s.diurnal:
        starts = starts[
            rng.random(len(starts)) < (1 + s.diurnal * np.sin(2 * np.pi * starts / DAY_S)) / (1 + s.diurnal)
        ]
    return np.sort(starts)


def _load(rng: np.random.Generator, count: int, span_s: float, diurnal: float) -> NDArray[np.float64]:
    """Times whose rate follows the day."""
    grid = np.linspace(0, span_s, 4097)
    rate = 1 + diurnal * np.sin(2 * np.pi * (grid[1:] + grid[:-1]) / 2 / DAY_S)
    return np.interp(rng.random(count), np.concatenate([[0], np.cumsum(rate)]) / rate.sum(), grid)


def group_free(kind: str, seed: int, models: int = 30, days: float = 2.0) -> Planted:
    """`independent`: each model for itself; `diurnal`: all share the day; `swings`: and each day's volume."""
    rng = np.random.default_rng(seed)
    span_s = days * DAY_S
    grid = np.linspace(0, span_s, 24 * 60 * int(np.ceil(days)) + 1)
    middle = (grid[1:] + grid[:-1]) / 2
    load = np.ones(len(middle))
    if kind != "independent":
        load = 1 + 0.9 * np.sin(2 * np.pi * middle / DAY_S + rng.random() * 6.283)
    if kind == "swings":
        load = load * rng.lognormal(0, 0.7, int(days) + 2)[(middle // DAY_S).astype(int)]
    cumulated = np.concatenate([[0], np.cumsum(load)]) / load.sum()
    times, who = [], []
    for m in range(models):
        expected = days * 10 ** rng.uniform(1.5, 4)
        unit = _own(rng, expected, rng.choice(["poisson", "gamma", "bursts"]))
        parts = np.interp(unit, cumulated, grid)
        times.append(parts)
        who.append(np.full(len(parts), m))
    arrival_s, model = np.concatenate(times), np.concatenate(who)
    order = np.argsort(arrival_s, kind="stable")
    none = np.full(models, -1)
    return Planted(arrival_s[order], model[order], none, none)


def _own(rng: np.random.Generator, expected: float, kind: str) -> NDArray[np.float64]:
    """Times in operational time 0…1: Poisson, gamma gaps of CV 1.5 to 5, or bursts of a geometric size."""
    if kind == "poisson":
        return rng.random(rng.poisson(expected))
    if kind == "gamma":
        shape = rng.uniform(1.5, 5) ** -2
        gaps = rng.gamma(shape, 1 / (shape * expected), int(expected * 1.5) + 50)
        times = np.cumsum(gaps)
        return times[times < 1]
    size = rng.uniform(5, 50)
    starts = rng.random(rng.poisson(expected / size))
    counts = rng.geometric(1 / size, len(starts))
    times = np.repeat(starts, counts) + rng.random(counts.sum()) * rng.uniform(30, 600) / DAY_S
    return times[times < 1]
