"""Maximum-likelihood fits of positive values, compared by AIC and by Kolmogorov–Smirnov distance.

Shape and scale: gamma k, θ; Weibull k, λ; lognormal σ, exp μ; exponential has no shape, its scale is the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, pi, sqrt

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.counted import Counted

Floats = NDArray[np.float64]
KS_GRID = 10_000  # KS is looked up at this many ranks: exact up to there, within 1/KS_GRID beyond
SEARCH_GRID = 20_000  # Weibull's search starts on this many ranks and ends on all values
TABLE = pl.Schema(
    {
        "family": pl.String(),
        "requests": pl.Int64(),
        "shape": pl.Float64(),
        "scale": pl.Float64(),
        "mean": pl.Float64(),
        "log_likelihood": pl.Float64(),
        "aic": pl.Float64(),
        "delta_aic": pl.Float64(),
        "ks": pl.Float64(),
    }
)


@dataclass(frozen=True)
class Fit:
    """One family at its most likely parameters; `cdf` maps values to probabilities."""

    family: str
    shape: float | None
    scale: float
    mean: float
    log_likelihood: float
    cdf: Callable[[Floats], Floats]

    @property
    def aic(self) -> float:
        return 2 * (1 + (self.shape is not None)) - 2 * self.log_likelihood


def compare(sample: Counted, families: Sequence[str]) -> pl.DataFrame:
    """Fit each of `families` to positive values; TABLE, best AIC first. Fewer than ten values fit nothing."""
    if sample.n < 10 or len(sample.values) < 2:
        return TABLE.to_frame()
    fits = sorted((FAMILIES[family](sample) for family in families), key=lambda fit: fit.aic)
    rows = [
        (f.family, sample.n, f.shape, f.scale, f.mean, f.log_likelihood, f.aic, f.aic - fits[0].aic, ks(f, sample))
        for f in fits
    ]
    return pl.DataFrame(rows, schema=TABLE, orient="row")


def ks(fit: Fit, sample: Counted) -> float:
    """The largest distance between the fitted and the observed distribution."""
    at = _grid(len(sample.values))
    with np.errstate(over="ignore", under="ignore"):  # far out in a tail the limits 0 and 1 are right
        model = fit.cdf(sample.values[at])
    after = sample.cumulative[at] / sample.n
    before = after - sample.counts[at] / sample.n
    return float(max(np.max(after - model), np.max(model - before)))


def _grid(values: int) -> NDArray[np.int64]:
    """The places of values, or of so many of them that the largest distance is hardly missed."""
    return np.arange(values) if values <= KS_GRID else np.linspace(0, values - 1, KS_GRID).astype(np.int64)


def exponential(sample: Counted) -> Fit:
    mean = sample.mean
    return Fit("exponential", None, mean, mean, -sample.n * (log(mean) + 1), lambda x: -np.expm1(-x / mean))


def lognormal(sample: Counted) -> Fit:
    from scipy.special import ndtr

    mu, sigma = _log_moments(sample)
    likelihood = -sample.n * (mu + log(sigma) + 0.5 * log(2 * pi) + 0.5)
    mean = exp(min(mu + sigma**2 / 2, 700))
    return Fit("lognormal", sigma, exp(mu), mean, likelihood, lambda x: ndtr((np.log(x) - mu) / sigma))


def gamma(sample: Counted) -> Fit:
    """Newton on ln k − ψ(k) = ln mean − mean ln, from Minka's start; a handful of steps."""
    from scipy.special import gammainc, gammaln, psi, zeta

    mean, (mean_log, _) = sample.mean, _log_moments(sample)
    gap = max(log(mean) - mean_log, 1e-12)
    k = (3 - gap + sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    for _ in range(50):
        step = (log(k) - psi(k) - gap) / (1 / k - zeta(2, k))  # ζ(2, k) is the trigamma function
        k = k - step if step < k else k / 2
        if abs(step) < 1e-10 * k:
            break
    k = float(k)
    scale = mean / k
    likelihood = sample.n * ((k - 1) * mean_log - k - k * log(scale) - float(gammaln(k)))
    return Fit("gamma", k, scale, mean, likelihood, lambda x: gammainc(k, x / scale))


def weibull(sample: Counted) -> Fit:
    """Newton on the profile likelihood of k, on a thinned sample first, then on every value."""
    from scipy.special import gamma as gamma_function

    mean_log, sigma = _log_moments(sample)
    logs = np.log(sample.values) - mean_log
    k = _weibull_shape(*_thinned(logs, sample), start=pi / (sigma * sqrt(6)))
    k = _weibull_shape(logs, sample.counts, start=k)
    scale = exp(mean_log) * float(np.exp(k * logs) @ sample.counts / sample.n) ** (1 / k)
    likelihood = sample.n * (log(k) - k * log(scale) + (k - 1) * mean_log - 1)
    mean = scale * float(gamma_function(1 + 1 / k))
    return Fit("weibull", k, scale, mean, likelihood, lambda x: -np.expm1(-((x / scale) ** k)))


FAMILIES: dict[str, Callable[[Counted], Fit]] = {
    "exponential": exponential,
    "gamma": gamma,
    "weibull": weibull,
    "lognormal": lognormal,
}


def pareto_tail(sample: Counted) -> tuple[Fit, int] | None:
    """A Pareto tail and how many values it covers; it starts where its KS distance is smallest (Clauset et al. 2009).

    Starts are tried at a hundred ranks from the median to the last hundred values; null when there are fewer.
    """
    positive = sample.above(0)
    if positive.n < 200:
        return None
    starts = positive.quantile(np.linspace(0.5, 1 - 100 / positive.n, 100))
    tails = [positive.after(int(first)) for first in np.unique(np.searchsorted(positive.values, starts))]
    sums = np.cumsum((np.log(positive.values) * positive.counts)[::-1])
    fits = [(_pareto(tail, sums[len(tail.values) - 1] / tail.n), tail) for tail in tails if len(tail.values) > 1]
    if not fits:
        return None
    logs, upto = np.log(positive.values), np.append(0, positive.cumulative)
    fit, tail = min(
        fits, key=lambda pair: _tail_distance(pair[0], logs, upto, len(positive.values) - len(pair[1].values))
    )
    return fit, tail.n


def _tail_distance(fit: Fit, logs: Floats, upto: NDArray[np.int64], begin: int) -> float:
    """`ks` of a Pareto tail that begins at this place of a sample with these logs and cumulative counts before each."""
    at = begin + _grid(len(logs) - begin)
    model = -np.expm1(-(fit.shape or 0.0) * (logs[at] - logs[begin]))
    n = upto[-1] - upto[begin]
    return float(max(np.max((upto[at + 1] - upto[begin]) / n - model), np.max(model - (upto[at] - upto[begin]) / n)))


def _pareto(tail: Counted, mean_log: float) -> Fit:
    start = float(tail.values[0])
    mean_excess = float(mean_log - log(start))
    alpha = 1 / mean_excess
    likelihood = tail.n * (log(alpha) - log(start) - (1 + alpha) * mean_excess)
    mean = alpha * start / (alpha - 1) if alpha > 1 else inf
    return Fit("pareto_tail", alpha, start, mean, likelihood, lambda x: 1 - (x / start) ** -alpha)


def _log_moments(sample: Counted) -> tuple[float, float]:
    logs = np.log(sample.values)
    mean = float(logs @ sample.counts / sample.n)
    return mean, max(sqrt(float((logs - mean) ** 2 @ sample.counts / sample.n)), 1e-12)


def _thinned(logs: Floats, sample: Counted) -> tuple[Floats, NDArray[np.int64]]:
    if len(logs) <= SEARCH_GRID:
        return logs, sample.counts
    rank = ((np.arange(SEARCH_GRID) + 0.5) / SEARCH_GRID * sample.n).astype(np.int64)
    return logs[np.searchsorted(sample.cumulative, rank, side="right")], np.ones(SEARCH_GRID, dtype=np.int64)


def _weibull_shape(logs: Floats, counts: NDArray[np.int64], *, start: float) -> float:
    k, mean_log = start, float(logs @ counts / counts.sum())
    for _ in range(50):
        powers = np.exp(k * logs) * counts
        total, first, second = powers.sum(), powers @ logs, powers @ logs**2
        value = first / total - 1 / k - mean_log
        step = value / (second / total - (first / total) ** 2 + 1 / k**2)
        if not isfinite(step):
            break
        k = k - step if step < k else k / 2
        if abs(step) < 1e-9 * k:
            break
    return float(k)
