"""How long are prompts and outputs: quantiles, fits, correlation, histogram."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import atanh, sqrt, tanh
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits
from toolkit.analysis.categories import Categories, slices
from toolkit.analysis.length_counts import LengthCounts
from toolkit.analysis.popularity import counts
from toolkit.analysis.whole import Whole
from toolkit.counted import LARGEST_TABLE, Counted
from toolkit.traces import TraceInfo

Ints = NDArray[np.int64]
TOKENS = ("prompt_tokens", "output_tokens")
SHORT = {"prompt": "prompt_tokens", "output": "output_tokens"}
FAMILIES = ("lognormal", "gamma", "weibull")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BINS_A_DECADE = 10
BUSIEST = 50
HALF = 16  # bits
EMPTY = Counted(np.zeros(0), np.zeros(0, dtype=np.int64))

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
SUMMARY = pl.Schema(
    {"column": _s, "requests": _i, "missing": _i, "zeros": _i, "mean": _f, "std": _f, "min": _f}
    | dict.fromkeys(QUANTILES, _f)
    | {"max": _f}
)
FITS = pl.Schema({"column": _s} | {name: kind for name, kind in fits.TABLE.items() if name != "mean"})
CORRELATION = pl.Schema({"method": _s, "value": _f, "low": _f, "high": _f, "requests": _i})
HISTOGRAM = pl.Schema({"column": _s, "low": _f, "high": _f, "requests": _i, "share": _f})


@dataclass(frozen=True)
class Counts:
    """A part of the trace: rows, how often each model has each length, and sums of products of paired lengths.

    Sums are whole numbers, so that they do not depend on the parts; ranks are doubled to be whole.
    """

    rows: int
    lengths: dict[str, LengthCounts]
    models: pl.DataFrame  # model, requests
    products: int
    rank_products: int


class Lengths:
    """How long prompts and outputs are: quantiles, fitted distributions, their correlation, histogram."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = (*TOKENS, "model")

    def __init__(self) -> None:
        self._paired: tuple[Sequence[Any] | None, tuple[Counted, Counted]] = None, (EMPTY, EMPTY)

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        whole = Whole(info, len(frame))
        whole = replace(whole, seen=[self.glance(frame, whole)])
        return self.finish([self.partial(frame, whole)], whole)

    def glance(self, frame: pl.DataFrame, whole: Whole) -> list[Counted]:
        """Prompts and outputs of the requests that have both, from which ranks are known."""
        pairs = _pairs(frame)
        return [Counted.of_integers(pairs[name]) for name in TOKENS]

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Counts:
        """A part's counts and sums."""
        products, rank_products = products_of(_pairs(frame), self._paired_in(whole))
        model = Categories(frame["model"])
        lengths = {name: LengthCounts.of(model, frame[name]) for name in TOKENS}
        return Counts(frame.height, lengths, counts(model, "model"), products, rank_products)

    def finish(self, parts: Sequence[Counts], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts."""
        lengths = {name: LengthCounts.merged([part.lengths[name] for part in parts]) for name in TOKENS}
        rows = sum(part.rows for part in parts)
        known = {name: found.all for name, found in lengths.items() if found.all.n}
        return {
            "summary": pl.DataFrame(
                [_summary(name, sample, rows) for name, sample in known.items()], schema=SUMMARY, orient="row"
            ),
            "fits": pl.concat([FITS.to_frame(), *(_fits(name, sample) for name, sample in known.items())]),
            "correlation": correlation(parts, self._paired_in(whole), known),
            "histogram": pl.concat([HISTOGRAM.to_frame(), *(histogram(name, s) for name, s in known.items())]),
            "models": by_model(pl.concat([part.models for part in parts]), lengths),
        }

    def _paired_in(self, whole: Whole) -> tuple[Counted, Counted]:
        """`paired`, put together once for all parts."""
        if self._paired[0] is not whole.seen:
            self._paired = whole.seen, paired(whole)
        return self._paired[1]


def paired(whole: Whole) -> tuple[Counted, Counted]:
    """Prompts and outputs of all requests that have both."""
    prompt, output = (Counted.merged(list(samples)) for samples in zip(*whole.seen, strict=True))
    return prompt, output


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


def correlation(parts: Sequence[Counts], pairs: tuple[Counted, Counted], known: dict[str, Counted]) -> pl.DataFrame:
    """Pearson's and Spearman's of prompt against output tokens; absent where one of them never varies."""
    if len(known) < 2 or any(len(sample.values) < 2 for sample in known.values()):
        return CORRELATION.to_frame()
    ranks = [Counted(doubled_ranks(sample).astype(np.float64), sample.counts) for sample in pairs]
    sums = {"pearson": sum(p.products for p in parts), "spearman": sum(p.rank_products for p in parts)}
    rows = [
        (method, *_with_interval(sums[method], *samples))
        for method, samples in (("pearson", pairs), ("spearman", ranks))
    ]
    return pl.DataFrame(rows, schema=CORRELATION, orient="row").drop_nulls("value")


def doubled_ranks(sample: Counted) -> Ints:
    """Twice the average rank of each value, which is whole."""
    twice: Ints = 2 * sample.cumulative - sample.counts + 1
    return twice


def ranking(sample: Counted) -> Callable[[NDArray[np.integer]], Ints]:
    """What tells values' doubled ranks: a table where they are small enough for one."""
    twice, values = doubled_ranks(sample), sample.values.astype(np.int64)
    if not len(values) or values[0] < 0 or values[-1] >= LARGEST_TABLE:
        return lambda tokens: twice[np.searchsorted(values, tokens)]
    table = np.zeros(int(values[-1]) + 1, dtype=np.int64)
    table[values] = twice
    return table.take


def products_of(pairs: pl.DataFrame, samples: Sequence[Counted]) -> tuple[int, int]:
    """The exact sums of the products of both lengths, and of their doubled ranks, of a part of `samples`."""
    ranks, products, rank_products = [ranking(sample) for sample in samples], 0, 0
    most = [int(np.abs(sample.values).max(initial=0)) for sample in samples]
    for x, y in slices(*(pairs[name].to_numpy() for name in TOKENS)):
        products += dot(x.astype(np.int64), y.astype(np.int64), *most)
        rank_products += dot(ranks[0](x), ranks[1](y), *(2 * sample.n for sample in samples))
    return products, rank_products


def dot(x: Ints, y: Ints, most_x: int, most_y: int) -> int:
    """The exact sum of products of whole numbers up to `most`, by the upper and lower bits of what might overflow."""
    if most_x * most_y * len(x) < 2**63:
        return int(x @ y)
    if most_x > most_y:
        x, y, most_x, most_y = y, x, most_y, most_x
    upper = dot(x, y >> HALF, most_x, (most_y >> HALF) + 1)
    return (upper << HALF) + dot(x, y & ((1 << HALF) - 1), most_x, min(most_y, 1 << HALF))


def _with_interval(products: int, x: Counted, y: Counted) -> tuple[float | None, float | None, float | None, int]:
    n = x.n
    (sum_x, squares_x), (sum_y, squares_y) = (_moments(sample) for sample in (x, y))
    spread = (n * squares_x - sum_x**2) * (n * squares_y - sum_y**2)
    value = (n * products - sum_x * sum_y) / sqrt(spread) if spread else None
    if value is None or n < 4 or not abs(value) < 1:
        return value, None, None, n
    half = 1.959964 / sqrt(n - 3)
    return value, tanh(atanh(value) - half), tanh(atanh(value) + half), n


def _moments(sample: Counted) -> tuple[int, int]:
    """The exact sum of whole values and that of their squares."""
    values = sample.values.astype(np.int64)
    most, n = int(np.abs(values).max(initial=0)), sample.n
    return dot(values, sample.counts, most, n), dot(values**2, sample.counts, most**2, n)


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


def by_model(models: pl.DataFrame, lengths: dict[str, LengthCounts]) -> pl.DataFrame:
    """Median and P99 of both lengths for the busiest models."""
    busiest = models.group_by("model").agg(pl.col("requests").sum())
    busiest = busiest.sort("requests", "model", descending=[True, False]).head(BUSIEST)
    quantiles = [_quantiles(lengths[name], busiest["model"], short) for short, name in SHORT.items()]
    return pl.concat([busiest, *quantiles], how="horizontal")


def _quantiles(lengths: LengthCounts, models: pl.Series, short: str) -> pl.DataFrame:
    """Of each of `models`; null where it has no length."""
    own = [lengths.of_name(name) for name in models]
    rows = [sample.quantile([0.5, 0.99]).tolist() if sample.n else [None, None] for sample in own]
    return pl.DataFrame(rows, schema=dict.fromkeys((f"{short}_p50", f"{short}_p99"), pl.Float64()), orient="row")


def _pairs(frame: pl.DataFrame) -> pl.DataFrame:
    """Both lengths where both are known."""
    known = pl.DataFrame([frame[name] for name in TOKENS])
    return known.drop_nulls() if any(column.null_count() for column in known) else known
