"""A column as a bin a request and a histogram a chunk of requests, so that what follows costs the same at any length.

Bins hold equally many requests (64 quantiles of the whole trace) or are the names themselves, busiest first. Chunks
hold equally many requests in order of arrival: a quiet night does not get more weight than it has requests.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.categories import Categories

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint8]
BINS = 64
CHUNKS = 2000
LEAST_CHUNK = 10  # requests
LARGEST_TOKENS = 2**20 - 1
RATIO_STEPS, RATIO_ZERO = 32, 21 * 32  # a ratio is looked up in steps of 2^(1/32), from 2^-21 on
SLICE = 2**20  # requests that are counted at once


@dataclass(frozen=True)
class Values:
    """A column as whole numbers, one for each row of the trace: i means `meaning[i]`, −1 is unknown."""

    name: str
    numbers: NDArray[np.integer]
    meaning: Floats


@dataclass(frozen=True)
class Binned:
    """`codes` is a bin for each request that has a value; `middles` the mean value in each bin."""

    name: str
    codes: Codes
    middles: Floats
    ordered: bool  # bins have an order: quantiles; names have none
    time_s: Floats | None
    request_id: Ints
    labels: tuple[str | None, ...] = ()
    values: Values | None = None  # what was binned: names and joined bins have none

    @property
    def requests(self) -> int:
        return len(self.codes)

    @cached_property
    def edges(self) -> Ints:
        """The first request of each chunk, and the end."""
        chunks = min(CHUNKS, max(1, self.requests // LEAST_CHUNK))
        return np.arange(chunks + 1) * self.requests // chunks

    @cached_property
    def counts(self) -> Ints:
        """Requests in each chunk and bin, int64[chunks, bins]."""
        return counted(self.codes, self.edges, len(self.middles))

    @cached_property
    def features(self) -> Floats:
        """How far each chunk's distribution is from the whole's, times its requests, float64[chunks, features]."""
        return deviations(self.counts, self.ordered)

    def histogram(self, begin: int, end: int) -> Ints:
        """Requests by bin from the `begin`th to before the `end`th request."""
        first, last = np.searchsorted(self.edges, begin), np.searchsorted(self.edges, end, side="right") - 1
        bins = len(self.middles)
        if last <= first:
            return np.bincount(self.codes[begin:end], minlength=bins)
        ends = [self.codes[begin : self.edges[first]], self.codes[self.edges[last] : end]]
        return np.asarray(self.counts[first:last].sum(axis=0) + sum(np.bincount(e, minlength=bins) for e in ends))

    def median(self, begin: int, end: int) -> float | None:
        """The median from the `begin`th to before the `end`th request, of the values themselves."""
        if self.values is None:
            return None
        counts = _counts(self.values.numbers[begin:end], len(self.values.meaning))
        middle = np.searchsorted(np.cumsum(counts), [(end - begin - 1) // 2, (end - begin) // 2], side="right")
        return float(self.values.meaning[middle].mean())

    def when(self, request: int) -> float | None:
        return None if self.time_s is None else float(self.time_s[min(request, self.requests - 1)])


def deviations(counts: Ints, ordered: bool) -> Floats:
    """How far each row's distribution is from that of all rows, float64[rows, features], times its requests.

    Squared lengths of sums are Anderson–Darling distances where bins have an order, χ² distances where not.
    """
    sizes, share = counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    if not ordered:
        spread: Floats = (counts - sizes * share) / np.sqrt(share)
        return spread
    below = np.cumsum(share)[:-1]
    above = np.cumsum(counts, axis=1)[:, :-1] - sizes * below
    scaled: Floats = above / np.sqrt(below * (1 - below) * len(below))
    return scaled


def counted(codes: Codes, edges: Ints, bins: int) -> Ints:
    """Histogram of each chunk; some chunks at a time, so that no index of the whole trace is held."""
    sizes = np.diff(edges)
    together = max(1, int(SLICE // max(1, sizes.mean())))
    parts = []
    for begin in range(0, len(sizes), together):
        some = sizes[begin : begin + together]
        cell = np.repeat(np.arange(len(some), dtype=np.int32) * np.int32(bins), some)
        cell += codes[edges[begin] : edges[begin + len(some)]]
        parts.append(np.bincount(cell, minlength=len(some) * bins).reshape(len(some), bins))
    return np.concatenate(parts)


def token_values(frame: pl.DataFrame, column: str) -> Values:
    """Prompt or output tokens."""
    known = frame[column].fill_null(-1) if frame[column].null_count() else frame[column]
    numbers = np.minimum(known.to_numpy(), LARGEST_TOKENS)
    return Values(column, numbers, np.arange(numbers.max(initial=0) + 1, dtype=np.float64))


def ratio_values(frame: pl.DataFrame, name: str, below: str) -> Values:
    """Output tokens ÷ those of the column `below`, known where both are above zero."""
    positive = frame.select((pl.col(below) > 0) & (pl.col("output_tokens") > 0)).to_series().fill_null(False)
    known = frame.select(below, "output_tokens")
    known = known if positive.all() else known.filter(positive)
    ratio = np.log2(known["output_tokens"].to_numpy(), dtype=np.float32)
    ratio -= np.log2(known[below].to_numpy(), dtype=np.float32)
    ratio *= RATIO_STEPS
    steps = np.clip(np.rint(ratio, out=ratio), -RATIO_ZERO, RATIO_ZERO).astype(np.int32) + np.int32(RATIO_ZERO)
    numbers = steps
    if len(steps) < frame.height:
        numbers = np.full(frame.height, -1, dtype=np.int32)
        numbers[positive.to_numpy()] = steps
    return Values(name, numbers, 2.0 ** ((np.arange(2 * RATIO_ZERO + 1) - RATIO_ZERO) / RATIO_STEPS))


def of_tokens(frame: pl.DataFrame, column: str) -> Binned | None:
    """The bins of prompt or output tokens; null where fewer than two values occur."""
    return binned(token_values(frame, column), *where(frame))


@dataclass(frozen=True)
class Names:
    """A column of names as numbers, one a row; `busiest` are the numbers that occur, most requests first."""

    numbers: NDArray[np.integer]
    counts: Ints
    busiest: Ints
    labels: list[str | None]  # of the busiest

    def table(self, own: int, rest: int) -> Codes:
        """For each number the place of its name among the `own` busiest, for all others `rest`."""
        table = np.full(len(self.counts), rest, dtype=np.uint8)
        table[self.busiest[:own]] = np.arange(min(own, len(self.busiest)))
        return table


def names_of(column: pl.Series) -> Names:
    """The names of a column; null is one of them."""
    categories = Categories(column)
    found, requests = categories.counted
    counts = np.zeros(categories.most + 1, dtype=np.int64)
    counts[found] = requests
    named = pl.DataFrame(
        {"number": found, "name": categories.names(), "len": requests}, schema_overrides={"name": pl.String}
    )
    named = named.sort("len", "name", descending=[True, False])
    return Names(categories.numbers, counts, named["number"].to_numpy(), named["name"].to_list())


def _counts(numbers: NDArray[np.integer], most: int) -> Ints:
    """How often each number below `most` occurs; a slice at a time, as NumPy counts wide integers only."""
    slices = (numbers[i : i + SLICE] for i in range(0, len(numbers), SLICE))
    return sum((np.bincount(each, minlength=most) for each in slices), start=np.zeros(most, dtype=np.int64))


def of_names(frame: pl.DataFrame, column: str, names: Names | None = None) -> Binned | None:
    """The bins of a column of names, the busiest 63 and all others; null where there is but one name."""
    names = names or names_of(frame[column])
    distinct = len(names.busiest)
    if distinct < 2:
        return None
    own = distinct if distinct <= BINS else BINS - 1
    labels = (*names.labels[:own], *(["others"] if own < distinct else []))
    middles = np.arange(len(labels), dtype=np.float64)
    return Binned(column, names.table(own, BINS - 1)[names.numbers], middles, False, *where(frame), labels)


def binned(values: Values, time_s: Floats | None, request_id: Ints, most: int = BINS) -> Binned | None:
    """At most `most` quantile bins of the known values; null where fewer than two occur."""
    numbers = values.numbers
    if len(numbers) and numbers.min() < 0:
        known = numbers >= 0
        numbers, request_id = numbers[known], request_id[known]
        time_s = None if time_s is None else time_s[known]
    counts = _counts(numbers, len(values.meaning))
    distinct = np.flatnonzero(counts)
    if len(distinct) < 2:
        return None
    rank = (np.cumsum(counts[distinct]) - counts[distinct] / 2) * most / len(numbers)
    bins: Codes = np.unique(rank.astype(np.int64), return_inverse=True)[1].astype(np.uint8)
    table = np.zeros(len(values.meaning), dtype=np.uint8)
    table[distinct] = bins
    weight = np.bincount(bins, weights=counts[distinct])
    middles = np.bincount(bins, weights=counts[distinct] * values.meaning[distinct]) / weight
    known_values = replace(values, numbers=numbers)
    return Binned(values.name, table[numbers], middles, True, time_s, request_id, values=known_values)


def where(frame: pl.DataFrame) -> tuple[Floats | None, Ints]:
    """Every row's time, null where any is unknown, and its request."""
    times = frame["arrival_s"]
    return None if times.null_count() else times.to_numpy(), frame["request_id"].to_numpy()


def coarse(binned: Binned, groups: int = 8) -> Binned:
    """Bins of values joined into few, named by the least and largest mean in them."""
    place = np.arange(len(binned.middles)) * groups // len(binned.middles)
    joined: Codes = np.unique(place, return_inverse=True)[1].astype(np.uint8)
    inside = [binned.middles[joined == i] for i in range(int(joined.max()) + 1)]
    labels = tuple(f"{part[0]:.0f}–{part[-1]:.0f}" for part in inside)
    middles = np.array([part.mean() for part in inside])
    return Binned(binned.name, joined[binned.codes], middles, True, binned.time_s, binned.request_id, labels)
