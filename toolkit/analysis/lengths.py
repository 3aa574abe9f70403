"""How long are prompts and outputs: quantiles, fits, correlation, histogram."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atanh, sqrt, tanh
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits
from toolkit.analysis.categories import Categories, slices
from toolkit.analysis.known import known
from toolkit.analysis.length_counts import LengthCounts, LengthTable
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.popularity import counts
from toolkit.analysis.whole import Whole
from toolkit.counted import LARGEST_TABLE, Counted
from toolkit.traces import TraceInfo

Ints = NDArray[np.int64]
Score = Callable[[NDArray[np.integer]], Ints]
TOKENS = ("prompt_tokens", "output_tokens")
SHORT = {"prompt": "prompt_tokens", "output": "output_tokens"}
FAMILIES = ("lognormal", "gamma", "weibull")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BINS_A_DECADE = 10
BUSIEST = 50
HALF = 16  # bits

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
    """A part of the trace: rows, how often each model has each length, and both lengths of requests that have both.

    Sums are whole numbers, so that they do not depend on the parts.
    """

    rows: int
    lengths: dict[str, LengthCounts]
    models: pl.DataFrame  # model, requests
    paired: tuple[Counted, Counted]
    products: int  # of paired lengths, summed


class Lengths:
    """How long prompts and outputs are: quantiles, fitted distributions, their correlation, histogram."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = (*TOKENS, "model")

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        return in_one_piece(self, frame, Whole(info, len(frame)))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Counts:
        """A part's counts, and what its lengths have to do with each other."""
        model, pairs = Categories(frame["model"]), self.again(frame)
        lengths = {name: LengthCounts.of(model, frame[name]) for name in TOKENS}
        if pairs.height == frame.height:
            prompt, output = (LengthTable.of([lengths[name]]).all for name in TOKENS)
        else:
            prompt, output = (Counted.of_integers(pairs[name]) for name in TOKENS)
        products = products_of(pairs, (_same, _same), [_most(sample) for sample in (prompt, output)])
        return Counts(frame.height, lengths, counts(model, "model"), (prompt, output), products)

    def told(self, parts: Sequence[Counts], whole: Whole) -> tuple[Counted, Counted]:
        """Prompts and outputs of the requests that have both, from which ranks are known."""
        prompt, output = (Counted.merged(list(samples)) for samples in zip(*(p.paired for p in parts), strict=True))
        return prompt, output

    def again(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Both lengths where both are known."""
        return known(frame.select(TOKENS))

    def second(self, rows: pl.DataFrame, whole: Whole) -> int:
        """The sum of products of both lengths' ranks, doubled so that they are whole numbers."""
        prompt, output = whole.seen
        return products_of(rows, (ranking(prompt), ranking(output)), [2 * prompt.n] * 2)

    def finish(self, parts: Sequence[tuple[Counts, int]], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts."""
        counted, rank_products = zip(*parts, strict=True)
        lengths = {name: LengthTable.of([part.lengths[name] for part in counted]) for name in TOKENS}
        rows = sum(part.rows for part in counted)
        products = sum(part.products for part in counted), sum(rank_products)
        samples = {name: found.all for name, found in lengths.items() if found.all.n}
        return {
            "summary": pl.DataFrame(
                [_summary(name, sample, rows) for name, sample in samples.items()], schema=SUMMARY, orient="row"
            ),
            "fits": pl.concat([FITS.to_frame(), *(_fits(name, sample) for name, sample in samples.items())]),
            "correlation": correlation(products, whole.seen, samples),
            "histogram": pl.concat([HISTOGRAM.to_frame(), *(histogram(name, s) for name, s in samples.items())]),
            "models": by_model(pl.concat([part.models for part in counted]), lengths),
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


def correlation(products: tuple[int, int], pairs: tuple[Counted, Counted], samples: dict[str, Counted]) -> pl.DataFrame:
    """Pearson's and Spearman's of prompt against output tokens; absent where one of them never varies.

    `products` are the sums of products of paired lengths, and of their ranks.
    """
    if len(samples) < 2 or any(len(sample.values) < 2 for sample in samples.values()):
        return CORRELATION.to_frame()
    ranks = [Counted(doubled_ranks(sample).astype(np.float64), sample.counts) for sample in pairs]
    of_both = zip(("pearson", "spearman"), products, (pairs, ranks), strict=True)
    rows = [(method, *_with_interval(summed, *both)) for method, summed, both in of_both]
    return pl.DataFrame(rows, schema=CORRELATION, orient="row").drop_nulls("value")


def doubled_ranks(sample: Counted) -> Ints:
    """Twice the average rank of each value, which is whole."""
    twice: Ints = 2 * sample.cumulative - sample.counts + 1
    return twice


def ranking(sample: Counted) -> Score:
    """What tells values' doubled ranks: a table where they are small enough for one."""
    twice, values = doubled_ranks(sample), sample.values.astype(np.int64)
    if not len(values) or values[0] < 0 or values[-1] >= LARGEST_TABLE:
        return lambda tokens: twice[np.searchsorted(values, tokens)]
    table = np.zeros(int(values[-1]) + 1, dtype=np.int64)
    table[values] = twice
    return table.take


def products_of(pairs: pl.DataFrame, scores: tuple[Score, Score], most: Sequence[int]) -> int:
    """The exact sum of the products of both lengths' scores, which are up to `most`."""
    columns = slices(*(pairs[name].to_numpy() for name in TOKENS))
    return sum(dot(scores[0](x), scores[1](y), *most) for x, y in columns)


def _same(tokens: NDArray[np.integer]) -> Ints:
    return tokens.astype(np.int64)


def _most(sample: Counted) -> int:
    return int(np.abs(sample.values).max(initial=0))


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


def by_model(models: pl.DataFrame, lengths: dict[str, LengthTable]) -> pl.DataFrame:
    """Median and P99 of both lengths for the busiest models."""
    busiest = models.group_by("model").agg(pl.col("requests").sum())
    busiest = busiest.sort("requests", "model", descending=[True, False]).head(BUSIEST)
    quantiles = [_quantiles(lengths[name], busiest["model"], short) for short, name in SHORT.items()]
    return pl.concat([busiest, *quantiles], how="horizontal")


def _quantiles(lengths: LengthTable, models: pl.Series, short: str) -> pl.DataFrame:
    """Of each of `models`; null where it has no length."""
    own = [lengths.of_name(name) for name in models]
    rows = [sample.quantile([0.5, 0.99]).tolist() if sample.n else [None, None] for sample in own]
    return pl.DataFrame(rows, schema=dict.fromkeys((f"{short}_p50", f"{short}_p99"), pl.Float64()), orient="row")
