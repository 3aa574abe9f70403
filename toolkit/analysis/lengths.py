"""How long are prompts and outputs: quantiles, fits, correlation, histogram."""

from math import atanh, sqrt, tanh
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from toolkit import fits
from toolkit.counted import Counted
from toolkit.traces import TraceInfo

TOKENS = ("prompt_tokens", "output_tokens")
FAMILIES = ("lognormal", "gamma", "weibull")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BINS_A_DECADE = 10
BUSIEST = 50
LARGEST_LOOKUP = 2**24

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
SUMMARY = pl.Schema(
    {"column": _s, "requests": _i, "missing": _i, "zeros": _i, "mean": _f, "std": _f, "min": _f}
    | dict.fromkeys(QUANTILES, _f)
    | {"max": _f}
)
FITS = pl.Schema({"column": _s} | {name: kind for name, kind in fits.TABLE.items() if name != "mean"})
CORRELATION = pl.Schema({"method": _s, "value": _f, "low": _f, "high": _f, "requests": _i})
HISTOGRAM = pl.Schema({"column": _s, "low": _f, "high": _f, "requests": _i, "share": _f})


class Lengths:
    """How long prompts and outputs are: quantiles, fitted distributions, their correlation, histogram."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = (*TOKENS, "model")

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        counted = {name: Counted.of_integers(frame[name]) for name in TOKENS}
        known = {name: sample for name, sample in counted.items() if sample.n}
        return {
            "summary": pl.DataFrame(
                [_summary(name, sample, frame.height) for name, sample in known.items()], schema=SUMMARY, orient="row"
            ),
            "fits": pl.concat([FITS.to_frame(), *(_fits(name, sample) for name, sample in known.items())]),
            "correlation": correlation(frame, counted),
            "histogram": pl.concat([HISTOGRAM.to_frame(), *(histogram(name, s) for name, s in known.items())]),
            "models": by_model(frame),
        }


def _summary(name: str, sample: Counted, rows: int) -> tuple[object, ...]:
    zeros = sample.n - sample.above(0).n
    quantiles = sample.quantile(list(QUANTILES.values()))
    ends = sample.values[0], sample.values[-1]
    return (name, sample.n, rows - sample.n, zeros, sample.mean, sample.std, ends[0], *quantiles, ends[1])


def _fits(name: str, sample: Counted) -> pl.DataFrame:
    table = fits.compare(sample.above(0), FAMILIES)
    found = fits.pareto_tail(sample)
    if found is not None:
        tail, covered = found
        row = (tail.family, covered, tail.shape, tail.scale, tail.mean, tail.log_likelihood, None, None)
        distance = fits.ks(tail, sample.above(np.nextafter(tail.scale, 0)))
        table = table.vstack(pl.DataFrame([(*row, distance)], schema=fits.TABLE, orient="row"))
    return table.select(pl.lit(name).alias("column"), pl.exclude("mean"))


def correlation(frame: pl.DataFrame, counted: dict[str, Counted]) -> pl.DataFrame:
    """Pearson's and Spearman's of prompt against output tokens; absent where one of them never varies."""
    pairs = frame.select(TOKENS).drop_nulls()
    if any(len(sample.values) < 2 for sample in counted.values()):
        return CORRELATION.to_frame()
    ranked = pairs.select(_ranks(pairs[name]) for name in TOKENS)
    rows = [("pearson", *_with_interval(pairs)), ("spearman", *_with_interval(ranked))]
    return pl.DataFrame(rows, schema=CORRELATION, orient="row").drop_nans("value").drop_nulls("value")


def _ranks(tokens: pl.Series) -> pl.Series:
    """Average ranks, looked up by value where the values are small enough for a table."""
    sample = Counted.of_integers(tokens)
    if not sample.n or sample.values[0] < 0 or sample.values[-1] > LARGEST_LOOKUP:
        return tokens.rank()
    average = np.zeros(int(sample.values[-1]) + 1)
    average[sample.values.astype(np.int64)] = sample.cumulative - (sample.counts - 1) / 2
    return pl.Series(tokens.name, average[tokens.to_numpy()])


def _with_interval(pairs: pl.DataFrame) -> tuple[float | None, float | None, float | None, int]:
    value = pairs.select(pl.corr(*(pl.col(name).cast(pl.Float64) for name in TOKENS))).item()
    if value is None or pairs.height < 4 or not abs(value) < 1:
        return value, None, None, pairs.height
    half = 1.959964 / sqrt(pairs.height - 3)
    return value, tanh(atanh(value) - half), tanh(atanh(value) + half), pairs.height


def histogram(name: str, sample: Counted) -> pl.DataFrame:
    """Counts in bins that widen evenly on a log axis; zeros apart."""
    decades = max(1, int(np.ceil(np.log10(sample.values[-1] + 1))))
    edges = np.unique(np.round(10 ** (np.arange(decades * BINS_A_DECADE + 1) / BINS_A_DECADE)))
    edges = np.r_[0, edges]
    edges = edges[: np.searchsorted(edges, sample.values[-1], side="right") + 1]
    cell = np.searchsorted(edges, sample.values, side="right") - 1
    requests = np.bincount(cell, weights=sample.counts, minlength=len(edges) - 1).astype(np.int64)
    columns = {"low": edges[:-1], "high": edges[1:], "requests": requests, "share": requests / sample.n}
    return pl.DataFrame(columns).select(pl.lit(name).alias("column"), pl.all())


def by_model(frame: pl.DataFrame) -> pl.DataFrame:
    """Median and P99 of both lengths for the busiest models."""
    named = {"prompt": "prompt_tokens", "output": "output_tokens"}
    wanted = {
        f"{short}_{label}": pl.col(name).quantile(q, "linear")
        for short, name in named.items()
        for label, q in (("p50", 0.5), ("p99", 0.99))
    }
    table = frame.group_by("model").agg(requests=pl.len().cast(pl.Int64), **wanted)
    model = pl.col("model").cast(pl.String)
    return table.with_columns(model).sort("requests", "model", descending=[True, False]).head(BUSIEST)
