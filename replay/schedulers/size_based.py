"""What a size-based scheduler believes about output lengths, and how it is wrong."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.request_classes import RequestClasses
from toolkit.errors import SettingFailure, nearest

Tokens = NDArray[np.float64]
Noise = NDArray[np.float64]


class SizeBased:
    """A policy by output lengths as `predictor`, one of PREDICTORS, tells them: once for every request of a trace.

    `sigma` is the standard deviation of the log error (noisy, ranked), drawn with `seed`; `bias` a factor (biased),
    `share` the part of the trace that was learned from (stale), `by` the classes that can be told apart (class-mean,
    stale). A request whose length is unknown is taken for the median.
    """

    def __init__(
        self,
        predictor: str = "oracle",
        sigma: float = 0.5,
        bias: float = 1.0,
        share: float = 0.1,
        by: str = "model+tenant+prompt",
        seed: int = 0,
    ):
        if predictor not in PREDICTORS:
            raise SettingFailure(f"no predictor '{predictor}'", hint=nearest(predictor, PREDICTORS))
        if sigma < 0 or bias <= 0 or not 0 < share <= 1:
            raise SettingFailure(
                f"sigma={sigma:g}, bias={bias:g}, share={share:g} cannot be",
                hint="sigma is at least 0, bias above 0, share above 0 and at most 1",
            )
        self.predictor, self.sigma, self.bias, self.share, self.seed = predictor, sigma, bias, share, seed
        self.classes = RequestClasses(by)
        self._tokens: Tokens = np.zeros(0)

    def output_tokens(self, requests: pl.DataFrame) -> Tokens:
        """What is believed of `requests`; all that are ever asked about must be in the first call."""
        ids = requests["request_id"].to_numpy()
        if len(ids) and int(ids.max()) >= len(self._tokens):
            self._tokens = np.full(int(ids.max()) + 1, np.nan)
            self._tokens[ids] = PREDICTORS[self.predictor](self, requests, _known(requests["output_tokens"]))
        believed: Tokens = self._tokens[ids]
        return believed

    def predicted(self, request_ids: NDArray[np.int64]) -> Tokens:
        """What was believed, for OUTCOMES."""
        believed: Tokens = self._tokens[request_ids]
        return believed

    def noise(self, requests: pl.DataFrame) -> Noise:
        """exp(N(0, σ²)) of each request, the same whenever it is asked about."""
        ids = requests["request_id"].to_numpy()
        draws = np.random.default_rng(self.seed).standard_normal(int(ids.max(initial=-1)) + 1)
        noise: Noise = np.exp(self.sigma * draws[ids])
        return noise


def _known(lengths: pl.Series) -> Tokens:
    """Lengths as floats, the median for an unknown one."""
    tokens = lengths.cast(pl.Float64)
    middle = tokens.median()
    return tokens.fill_null(middle if middle is not None else 1.0).to_numpy()


def _oracle(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    return actual


def _noisy(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    return actual * policy.noise(requests)


def _biased(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    return actual * policy.bias


def _ranked(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    """Only the order is predicted, with noise: the k-th in that order is given the k-th smallest length."""
    believed = np.empty_like(actual)
    believed[np.argsort(actual * policy.noise(requests), kind="stable")] = np.sort(actual)
    return believed


def _adversarial(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    """The longest is taken for the shortest, the second longest for the second shortest, …"""
    believed = np.empty_like(actual)
    believed[np.argsort(actual, kind="stable")] = np.sort(actual)[::-1]
    return believed


def _class_mean(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    return _means(policy, requests, actual, len(requests))


def _stale(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    return _means(policy, requests, actual, max(1, round(policy.share * len(requests))))


def _means(policy: SizeBased, requests: pl.DataFrame, actual: Tokens, first: int) -> Tokens:
    """Each request's class's mean over the `first` requests; their overall mean for a class not seen there."""
    numbers = policy.classes.of(requests)
    sums = np.bincount(numbers[:first], weights=actual[:first], minlength=len(policy.classes))
    counts = np.bincount(numbers[:first], minlength=len(policy.classes))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), actual[:first].mean() if len(actual) else 0.0)
    believed: Tokens = means[numbers]
    return believed


def _column(policy: SizeBased, requests: pl.DataFrame, actual: Tokens) -> Tokens:
    predicted = requests["predicted_output_tokens"]
    if len(predicted) and predicted.null_count() == len(predicted):
        raise SettingFailure(
            "the trace has no predicted_output_tokens", where="predictor=column", hint="use predictor=oracle"
        )
    return _known(predicted)


PREDICTORS: dict[str, Callable[[SizeBased, pl.DataFrame, Tokens], Tokens]] = {
    "oracle": _oracle,
    "noisy": _noisy,
    "ranked": _ranked,
    "class-mean": _class_mean,
    "biased": _biased,
    "stale": _stale,
    "adversarial": _adversarial,
    "column": _column,
}
