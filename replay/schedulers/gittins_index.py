"""The Gittins index of jobs of unknown size, for the mean and, with a negative discount, for the tail.

Sizes are binned: a job of bin i ends at `ends[i]`, and its age is asked for at 0, ends[0], ends[1] … R = S − a | S > a
is what is left at age a. An index is found for every age at once: [age, Δ] with Δ reaching to the end of a bin.
"""

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
Shares = NDArray[np.float64]  # [bin], summing to 1
LARGEST_EXPONENT = 600.0


def expected_until(shares: Shares, ends: Seconds) -> Seconds:
    """The least expected service per completion at each age: inf over Δ of E[min(R, Δ)]/P(R ≤ Δ), one over the index.

    Gittins for the mean: the smallest is served first. Infinite at ages that nobody reaches.
    """
    weights, left = _remaining(shares, ends)
    ending = np.cumsum(weights, axis=1)
    spent = np.cumsum(weights * left, axis=1) + np.maximum(1.0 - ending, 0.0) * left
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(ending > 0, spent / ending, np.inf)
    least: Seconds = ratio.min(axis=1)
    return least


def gittins_boost(shares: Shares, ends: Seconds, gamma: float) -> Seconds:
    """b(a) = (1/γ)·ln sup over Δ of E[e^{γR}; R ≤ Δ]/(E[e^{γ·min(R, Δ)}] − 1) at each age; 0 at ages nobody reaches.

    The Gittins policy with a negative discount rate (Harlev, Yu and Scully, SIGMETRICS 2025); b_γ for a known size.
    """
    if np.isinf(gamma):
        return np.zeros(len(ends) + 1)
    weights, left = _remaining(shares, ends)
    grown = np.exp(np.minimum(gamma * left, LARGEST_EXPONENT))
    ending = np.cumsum(weights * grown, axis=1)
    beyond = np.maximum(1.0 - np.cumsum(weights, axis=1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(left > 0, ending / (ending + beyond * grown - 1.0), 0.0)
    ratio[~np.isfinite(ratio)] = 0.0
    best = ratio.max(axis=1)
    boosts: Seconds = np.where(best > 0, np.log(np.where(best > 0, best, 1.0)) / gamma, 0.0)
    return boosts


def _remaining(shares: Shares, ends: Seconds) -> tuple[NDArray[np.float64], Seconds]:
    """[age, bin]: (the share of those that reach the age that end in the bin, what is left until there; 0 before)."""
    ages = np.concatenate([[0.0], ends])
    left = np.maximum(ends[None, :] - ages[:, None], 0.0)
    alive = np.where(left > 0, shares[None, :], 0.0)
    total = alive.sum(axis=1, keepdims=True)
    return np.divide(alive, total, out=np.zeros_like(alive), where=total > 0), left
