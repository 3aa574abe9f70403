"""How long are prompts and outputs: quantiles, fits, correlation, histogram."""

from math import atanh, sqrt, tanh
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits
from toolkit.counted import Counted
from toolkit.traces import TraceInfo

TOKENS = ("prompt_tokens", "output_tokens")
FAMILIES = ("lognormal", "gamma", "weibull")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BINS_A_DECADE = 10
BUSIEST = 50

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
    """Pearson's and Spearman's of prompt against output tokens; undefined, so absent, when either never varies."""
    pairs = frame.select(TOKENS).drop_nulls()
    if pairs.height < 3 or any(len(sample.values) < 2 for sample in counted.values()):
        return CORRELATION.to_frame()
    prompt, output = (pairs[name].to_numpy() for name in TOKENS)
    ranked = _ranks(prompt), _ranks(output)
    rows = [
        ("pearson", *_with_interval(prompt, output)),
        ("spearman", *_with_interval(*ranked)),
    ]
    return pl.DataFrame(rows, schema=CORRELATION, orient="row").drop_nans("value")


def _ranks(tokens: NDArray[np.int32]) -> NDArray[np.float64]:
    """Average ranks, through a table of the distinct values."""
    sample = Counted.of_integers(pl.Series("tokens", tokens))
    average = sample.cumulative - (sample.counts - 1) / 2
    ranks: NDArray[np.float64] = average[np.searchsorted(sample.values.astype(tokens.dtype), tokens)]
    return ranks


def _with_interval(x: NDArray[np.generic], y: NDArray[np.generic]) -> tuple[float, float | None, float | None, int]:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(np.corrcoef(x.astype(np.float64), y.astype(np.float64))[0, 1])
    if len(x) < 4 or not abs(value) < 1:
        return value, None, None, len(x)
    half = 1.959964 / sqrt(len(x) - 3)
    return value, tanh(atanh(value) - half), tanh(atanh(value) + half), len(x)


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
