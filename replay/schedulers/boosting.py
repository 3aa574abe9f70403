"""Boosts: how far before its arrival a request is put, and the rate at which tails of waiting decay.

Times are seconds of exclusive service; γ is per second. Sources: γ-Boost (Yu and Scully, SIGMETRICS 2024) and, for
unknown sizes, the Gittins policy with a negative discount rate (Harlev, Yu and Scully, SIGMETRICS 2025).
"""

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
FULLEST = 0.98  # of a server: the decay rate is 0 at 1


def boost_s(work_s: Seconds | float, gamma: float) -> Seconds:
    """b(w) = (1/γ)·ln(1/(1 − e^{−γw})): infinite at w = 0, and 0 everywhere for γ = ∞."""
    work = np.asarray(work_s, np.float64)
    if np.isinf(gamma):
        return np.zeros_like(work)
    with np.errstate(divide="ignore"):
        boosts: Seconds = -np.log(-np.expm1(-gamma * work)) / gamma
    return boosts


def decay_rate(sizes_s: Seconds, per_s: float) -> float:
    """The γ > 0 with λ(E[e^{γS}] − 1) = γ: how fast the tail of FCFS decays in an M/G/1 queue of these sizes.

    There is none at a load of 1 or more; then the rate at load FULLEST is meant.
    """
    from scipy.optimize import brentq  # here: it takes a third of a second to load

    mean_s = float(sizes_s.mean())
    per_s = min(per_s, FULLEST / mean_s)
    largest_s = float(sizes_s.max())

    def excess(gamma: float) -> float:
        return float(per_s * np.expm1(gamma * sizes_s).mean() - gamma)

    # λ·E[e^{γS} − 1] is at least λ·P(S = max)·(e^{γ·max} − 1): at `high` that alone exceeds γ.
    low, high = 1e-9 / largest_s, 1.0 / largest_s
    while excess(high) < 0:
        high *= 1.5
    return float(brentq(excess, low, high))
