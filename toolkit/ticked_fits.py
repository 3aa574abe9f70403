"""Fits of gaps between stamps of a coarse clock: the likelihood of the ticks that were read, not of smooth values.

A gap of x between stamps that a clock cuts to whole steps s reads as k steps with probability max(0, 1 − |x/s − k|):
where the first stamp lies within its step is even. So P(k) = ∫ f(x) max(0, 1 − |x/s − k|) dx is a second difference
of the excess E[(X − x)⁺], which has a closed form for every family. Zero gaps are ticks like others.
"""

from collections.abc import Callable, Sequence
from math import log, pi, sqrt
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.counted import Counted
from toolkit.fits import TABLE

Floats = NDArray[np.float64]
Excess = Callable[[Floats, float, float], Floats]  # (x, shape, scale) -> E[(X − x)⁺]; at x = 0 the mean
LEAST = 1e-300


def compare(gaps: Counted, step_s: float, families: Sequence[str]) -> pl.DataFrame:
    """Fit each of `families` to gaps that are read in steps of the clock; fits.TABLE, best AIC first."""
    ticks = in_ticks(gaps, step_s)
    if ticks.n < 10 or len(ticks.values) < 3:
        return TABLE.to_frame()
    rows = sorted((_row(family, ticks, step_s) for family in families), key=lambda row: float(row["aic"]))
    best = rows[0]["aic"]
    return pl.DataFrame([{**row, "delta_aic": row["aic"] - best} for row in rows], schema=TABLE)


def in_ticks(gaps: Counted, step_s: float) -> Counted:
    """Gaps as whole steps; stamps that jitter around the step are rounded to it."""
    values, index = np.unique(np.round(gaps.values / step_s), return_inverse=True)
    return Counted(values, np.bincount(index, weights=gaps.counts).astype(np.int64))


def probabilities(ticks: Floats, excess: Callable[[Floats], Floats]) -> Floats:
    """P(k) for each k of `ticks`, with x in steps."""
    before, at, after = excess(np.maximum(ticks - 1, 0)), excess(ticks), excess(ticks + 1)
    return np.maximum(np.where(ticks == 0, 1 - at + after, before - 2 * at + after), LEAST)


def _row(family: str, ticks: Counted, step_s: float) -> dict[str, Any]:
    law, start = FAMILIES[family], _start(family, ticks)
    found, loss = _most_likely(law, start, ticks)

    def excess(x: Floats) -> Floats:
        return law(x, *found)

    return {
        "family": family,
        "requests": ticks.n,
        "shape": found[0] if len(start) == 2 else None,
        "scale": found[1] * step_s,
        "mean": float(excess(np.zeros(1))[0]) * step_s,
        "log_likelihood": -loss,
        "aic": 2 * len(start) + 2 * loss,
        "ks": _ks(ticks, excess),
    }


def _most_likely(law: Excess, start: list[float], ticks: Counted) -> tuple[tuple[float, float], float]:
    """Shape and scale, and minus the log likelihood; searched over their logarithms."""
    from scipy.optimize import minimize

    def parameters(logs: Floats) -> tuple[float, float]:
        positive = np.exp(np.clip(logs, -30, 30))
        return (float(positive[0]) if len(logs) == 2 else 1.0), float(positive[-1])

    def loss(logs: Floats) -> float:
        shape, scale = parameters(logs)
        with np.errstate(all="ignore"):  # the search strays; what overflows there is unlikely enough
            p = np.nan_to_num(probabilities(ticks.values, lambda x: law(x, shape, scale)), nan=LEAST)
            return -float(np.log(p) @ ticks.counts)

    options = {"xatol": 1e-6, "fatol": 1e-9 * ticks.n, "maxiter": 1000}
    found = minimize(loss, start, method="Nelder-Mead", options=options)
    return parameters(found.x), float(found.fun)


def _start(family: str, ticks: Counted) -> list[float]:
    """Logarithms of shape and scale that match the mean and, roughly, the spread."""
    mean, cv = max(ticks.mean, 1e-3), max((ticks.std or 1) / max(ticks.mean, 1e-3), 0.05)
    sigma = sqrt(log(1 + cv**2))
    return {
        "exponential": [log(mean)],
        "gamma": [-2 * log(cv), log(mean * cv**2)],
        "weibull": [log(min(pi / (sigma * sqrt(6)), 10)), log(mean)],
        "lognormal": [log(sigma), log(mean) - sigma**2 / 2],
    }[family]


def _ks(ticks: Counted, excess: Callable[[Floats], Floats]) -> float:
    """Distance at the ticks; up to tick k the model holds 1 − (excess at k − excess at k + 1)."""
    model = 1 - (excess(ticks.values) - excess(ticks.values + 1))
    below = np.where(ticks.values > 0, 1 - (excess(np.maximum(ticks.values - 1, 0)) - excess(ticks.values)), 0.0)
    after = ticks.cumulative / ticks.n
    before = after - ticks.counts / ticks.n
    return float(max(np.abs(after - model).max(), np.abs(before - below).max()))


def _exponential(x: Floats, shape: float, scale: float) -> Floats:
    return scale * np.exp(-x / scale)


def _gamma(x: Floats, shape: float, scale: float) -> Floats:
    from scipy.special import gammaincc

    excess: Floats = shape * scale * gammaincc(shape + 1, x / scale) - x * gammaincc(shape, x / scale)
    return excess


def _weibull(x: Floats, shape: float, scale: float) -> Floats:
    from scipy.special import gamma, gammaincc

    power = (x / scale) ** shape
    excess: Floats = scale * gamma(1 + 1 / shape) * gammaincc(1 + 1 / shape, power) - x * np.exp(-power)
    return excess


def _lognormal(x: Floats, shape: float, scale: float) -> Floats:
    from scipy.special import ndtr

    with np.errstate(divide="ignore"):
        z = np.log(x / scale) / shape
    excess: Floats = scale * np.exp(shape**2 / 2) * ndtr(shape - z) - x * ndtr(-z)
    return excess


FAMILIES: dict[str, Excess] = {
    "exponential": _exponential,
    "gamma": _gamma,
    "weibull": _weibull,
    "lognormal": _lognormal,
}
