"""More of a given trace."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.protocols import Planted, RateFactor
from toolkit.traces import read_trace
from workloads.generators.edges import Edge
from workloads.generators.likeness import MARKS, Fitted, Likeness, balanced, fit
from workloads.generators.renewal import Intensity, Steps, renewal
from workloads.generators.single import positive
from workloads.generators.truths import Row, facts, table

Floats = NDArray[np.float64]
RUN = 12  # buckets of the fast course that stay together when it is drawn anew
NEAR_ROWS = 200  # at least so many of a model's rows, near in time, are drawn from
NEAR_SHARE = 0.04
JITTER = 0.03  # of a token count, so that a longer trace does not repeat the same ones; frequent values stay
FREQUENT = 0.005


@dataclass(frozen=True)
class Like:
    """More of a trace: its rate over time, gaps, popularity and rows (whose, lengths together) as fitted.

    `load` multiplies the rate. `models` keeps so many of the busiest or adds some, by the popularity's own slope; the
    total rate stays. The slow course of a trace of two days or more repeats by whole days, else as a whole.
    """

    trace: Path
    load: float = 1.0
    models: int | None = None

    def __post_init__(self) -> None:
        positive(load=self.load)
        if self.models is not None and self.models < 1:
            raise ValueError("models must be 1 or more")

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        return planted(fit(read_trace([self.trace])), span_s, self.load, self.models, factor, rng)


def planted(
    likeness: Likeness, span_s: float, load: float, models: int | None, factor: RateFactor, rng: np.random.Generator
) -> Planted:
    """Requests for `span_s` seconds that are like the fitted trace."""
    of_course, of_gaps, of_rows, of_new = rng.spawn(4)
    sources = _peopled(likeness, models, of_new)
    picked = _buckets(likeness, span_s, of_course)
    rate_per_s = likeness.rate_per_s * load
    rates = [_rate(likeness, source, rate_per_s * source.share, picked) for source in sources]

    def requests(edges: Iterable[float]) -> Iterator[pl.DataFrame]:
        edge, gap_rngs = Edge(), of_gaps.spawn(len(sources))
        arrivals = [
            renewal(edge.upto(), _intensity(rate, factor), source.gaps, own)
            for source, rate, own in zip(sources, rates, gap_rngs, strict=True)
        ]
        row_rngs = of_rows.spawn(len(sources))
        for end_s in edges:
            edge.end_s = end_s
            drawn = [
                _rows(source, next(times), likeness.period_s, own)
                for source, times, own in zip(sources, arrivals, row_rngs, strict=True)
            ]
            yield pl.concat(drawn, how="vertical").sort("arrival_s", maintain_order=True)

    names = {column: _borne(sources, column) for column in ("model", "tenant")}
    return Planted(requests, table(_truth(likeness, sources, rate_per_s)), likeness.notes, names)


def _borne(sources: list[Fitted], column: str) -> set[str]:
    """The names that any source's rows have."""
    return {name for source in sources if column in source.rows for name in source.rows[column].drop_nulls().unique()}


def _intensity(rate: Steps, factor: RateFactor) -> Intensity:
    return Intensity(lambda time_s: rate.at(time_s) * factor.at(time_s), (rate, factor))


def _buckets(
    likeness: Likeness, span_s: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every bucket of the new trace, the bucket of the old one whose slow and whose fast course it has."""
    n = int(np.ceil(span_s / likeness.bucket_s)) + 1
    period = max(1, round(likeness.period_s / likeness.bucket_s))
    slow = np.arange(n) % min(period, len(likeness.slow))
    runs = rng.integers(len(likeness.fast), size=-(-n // RUN))
    fast = (np.repeat(runs, RUN) + np.tile(np.arange(RUN), len(runs)))[:n] % len(likeness.fast)
    return slow, fast


def _rate(likeness: Likeness, source: Fitted, rate_per_s: float, picked: tuple[NDArray[np.int64], ...]) -> Steps:
    slow, fast = picked
    level = likeness.slow[slow] * likeness.fast[fast] * source.course[slow]
    return Steps(np.arange(len(slow), dtype=np.float64) * likeness.bucket_s, rate_per_s * level)


def _peopled(likeness: Likeness, models: int | None, rng: np.random.Generator) -> list[Fitted]:
    """The models to send: as fitted, only the busiest, or with more of them."""
    fitted = list(likeness.models)
    if models is None or models == len(fitted):
        return fitted
    kept = fitted[:models] + [_another(fitted, rank, rng) for rank in range(len(fitted), models)]
    whole = sum(source.share for source in kept)
    shared = [replace(source, share=source.share / whole) for source in kept]
    return list(balanced(shared, likeness.slow * likeness.fast))


def _another(fitted: list[Fitted], rank: int, rng: np.random.Generator) -> Fitted:
    """One more model: the share that the rank would have, otherwise as one of the fitted, at another time."""
    shares = np.array([source.share for source in fitted])
    ranks = np.log(np.arange(1, len(shares) + 1))
    slope = np.polyfit(ranks, np.log(shares), 1)[0] if len(shares) > 1 else -1.0
    share = float(shares[-1] * ((rank + 1) / len(shares)) ** min(slope, 0.0))
    like = fitted[int(rng.integers(len(fitted)))]
    shifted = np.roll(like.course, int(rng.integers(len(like.course))))
    name = f"{like.model or 'model'}+{rank}"
    rows = like.rows.with_columns(model=pl.lit(name))
    return Fitted(name, share, shifted, like.gaps, rows)


def _rows(source: Fitted, arrival_s: Floats, period_s: float, rng: np.random.Generator) -> pl.DataFrame:
    """Whose the requests are and what they ask: whole rows of the source, from about the same time."""
    n, times = len(source.rows), source.rows["arrival_s"].to_numpy()
    near = max(NEAR_ROWS, NEAR_SHARE * n)
    around = np.searchsorted(times, arrival_s % period_s) + rng.uniform(-near, near, len(arrival_s))
    at = np.abs(np.floor(around)).astype(np.int64) % (2 * n)  # reflected at both ends
    rows = source.rows[np.where(at >= n, 2 * n - 1 - at, at)].with_columns(arrival_s=pl.Series(arrival_s))
    tokens = [name for name in MARKS if name.endswith("_tokens") and name in rows.columns]
    return rows.with_columns(_jittered(rows[name], source.rows[name], rng) for name in tokens)


def _jittered(values: pl.Series, known: pl.Series, rng: np.random.Generator) -> pl.Series:
    """Token counts moved by a few per cent, within the source's bounds; frequent values are kept."""
    if known.null_count() == len(known):
        return values
    counts = known.value_counts().filter(pl.col("count") > FREQUENT * len(known))
    kept = values.is_in(counts[known.name].implode()).fill_null(False).to_numpy()
    number = values.cast(pl.Float64).to_numpy()
    bounds = known.drop_nulls().to_numpy()
    moved = np.clip(np.rint(number * np.exp(JITTER * rng.standard_normal(len(values)))), bounds.min(), bounds.max())
    return pl.Series(values.name, np.where(kept, number, moved), nan_to_null=True).cast(pl.Int32)


def _truth(likeness: Likeness, sources: list[Fitted], rate_per_s: float) -> list[Row]:
    """What was fitted of each model."""
    rows = facts("likeness", {"bucket_s": likeness.bucket_s, "period_s": likeness.period_s})
    for source in sources:
        values = {
            "rate_per_s": rate_per_s * source.share,
            "gap_cv": source.gaps.cv,
            "course_sd": float(source.course.std()),
        }
        rows += facts("arrivals", values, model=source.model)
    return rows
