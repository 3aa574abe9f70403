"""Estimates of output lengths at admission, made only from what was known before; float64 a request.

A class is what an admission could tell apart: a model and kind. The first TRAINING of the requests trains what needs
it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TRAINING = 0.1
ORACLE_NOISE = 0.5  # σ of the log of the noisy oracle's factor
ORACLE_SEED = 0
HIGH_QUANTILE = 0.9
SAFETY = {"premium": 1.2, "standard": 1.0, "batch": 0.8}  # DriftSched's, by tier


@dataclass(frozen=True)
class Request:
    """What is known of every request, arrays in arrival order; `known` ends the training window."""

    actual: Floats
    prompt: Floats  # 0 where unknown
    classes: Ints
    safety: Floats
    predicted: Floats | None  # NaN where the trace has none
    known: int


@dataclass(frozen=True)
class Estimate:
    """`base` is calibrated by observed ∕ `base`; the estimate given out is `base` × calibration × `factor`."""

    base: Floats
    factor: Floats | float = 1.0


def class_mean(requests: Request) -> Estimate:
    """The mean of the class in the training window."""
    trained, classes = requests.actual[: requests.known], requests.classes[: requests.known]
    totals = np.bincount(classes, weights=trained, minlength=_most(requests))
    seen = np.bincount(classes, minlength=_most(requests))
    overall = trained.mean()
    return Estimate(np.where(seen > 0, totals / np.maximum(seen, 1), overall)[requests.classes])


def class_median(requests: Request) -> Estimate:
    """The median of the class in the training window."""
    return Estimate(_quantiles(requests, 0.5)[requests.classes])


def class_p90(requests: Request) -> Estimate:
    """The P90 of the class in the training window, as a budget that is seldom exceeded."""
    return Estimate(_quantiles(requests, HIGH_QUANTILE)[requests.classes])


def noisy_oracle(requests: Request) -> Estimate:
    """The actual length times lognormal noise of σ 0.5 and mean 1; seeded."""
    noise = np.random.default_rng(ORACLE_SEED).normal(-(ORACLE_NOISE**2) / 2, ORACLE_NOISE, len(requests.actual))
    return Estimate(requests.actual * np.exp(noise))


def paper(requests: Request) -> Estimate:
    """DriftSched's: class mean × tier's safety × min(1.5, 1 + prompt ∕ 1000), calibrated on the class mean alone.

    The paper's base is a constant a prompt category; traces have no prompts, so the training window's class mean
    stands for it. Its feedback leaves safety and input factor out, so those two stay as bias by design.
    """
    return Estimate(class_mean(requests).base, requests.safety * np.minimum(1.5, 1 + requests.prompt / 1000))


ESTIMATORS: dict[str, Callable[[Request], Estimate]] = {
    "class mean": class_mean,
    "class median": class_median,
    "class P90": class_p90,
    "noisy oracle": noisy_oracle,
    "paper": paper,
}


def _quantiles(requests: Request, q: float) -> Floats:
    """A quantile of each class in the training window; of all classes for one not seen there."""
    trained, classes = requests.actual[: requests.known], requests.classes[: requests.known]
    order = np.lexsort((trained, classes))
    starts = np.searchsorted(classes[order], np.arange(_most(requests) + 1))
    sizes = np.diff(starts)
    place = starts[:-1] + np.floor(q * np.maximum(sizes - 1, 0)).astype(np.int64)
    found = trained[order][np.minimum(place, len(trained) - 1)]
    return np.where(sizes > 0, found, np.quantile(trained, q))


def _most(requests: Request) -> int:
    return int(requests.classes.max()) + 1
