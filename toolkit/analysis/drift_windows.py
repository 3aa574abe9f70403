"""How a distribution moves over time: windows against the first window and against the one before."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.drift_bins import Binned

Floats = NDArray[np.float64]
WINDOWS = 48
LEAST_IN_WINDOW = 50  # requests
PSI_BINS = 10
PERMUTATIONS = 99
QUANTILES = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}
DISTANCES = ("ks", "wasserstein", "psi")

_f = pl.Float64()
WINDOW = pl.Schema(
    {"column": pl.String(), "window": pl.Int64(), "start_s": _f, "end_s": _f, "requests": pl.Int64()}
    | dict.fromkeys(("mean", *QUANTILES), _f)
    | {f"{distance}_{against}": _f for against in ("reference", "previous") for distance in DISTANCES}
)
NULL = pl.Schema({"column": pl.String(), "distance": pl.String(), "against": pl.String(), "null": _f, "most": _f})


def windows(binned: Binned, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """WINDOW and NULL: `null` is what 99 % of traces stay below whose halves of windows change places."""
    count = min(WINDOWS, max(2, binned.requests // LEAST_IN_WINDOW), len(binned.counts) // 2)
    if count < 2:
        return WINDOW.to_frame(), NULL.to_frame()
    edges = np.linspace(0, len(binned.counts), 2 * count + 1).round().astype(np.int64)
    halves = np.add.reduceat(binned.counts, edges[:-1], axis=0)
    counts = _paired(halves)
    found = distances(counts, binned)
    table = pl.DataFrame(_described(binned, edges[::2], counts) | found, schema=WINDOW, nan_to_null=True)
    order = np.argsort(rng.random((PERMUTATIONS, 2 * count)), axis=1)
    null = {name: _most(values) for name, values in distances(_paired(halves[order]), binned).items()}
    rows = [
        (binned.name, *name.split("_"), float(np.quantile(null[name], 0.99)), float(_most(values)))
        for name, values in found.items()
    ]
    return table, pl.DataFrame(rows, schema=NULL, orient="row")


def distances(counts: NDArray[np.int64], binned: Binned) -> dict[str, Floats]:
    """KS, Wasserstein (in the column's unit; for names total variation) and PSI of each window, float[…, windows].

    The first window has none: it is the reference.
    """
    share = counts / counts.sum(axis=-1, keepdims=True)
    coarse = _merged(counts, binned)
    found = {}
    for against, before in (("reference", slice(0, 1)), ("previous", slice(0, -1))):
        gap = share[..., 1:, :] - share[..., before, :]
        now, then = coarse[..., 1:, :], coarse[..., before, :]
        found[f"ks_{against}"] = _ks(gap, binned.ordered)
        found[f"wasserstein_{against}"] = _wasserstein(gap, binned)
        found[f"psi_{against}"] = ((now - then) * np.log(now / then)).sum(axis=-1)
    return {name: np.concatenate([np.full_like(values[..., :1], np.nan), values], -1) for name, values in found.items()}


def _paired(halves: NDArray[np.int64]) -> NDArray[np.int64]:
    return halves[..., ::2, :] + halves[..., 1::2, :]


def _ks(gap: Floats, ordered: bool) -> Floats:
    largest: Floats = np.abs(np.cumsum(gap, axis=-1)).max(axis=-1) if ordered else np.abs(gap).sum(axis=-1) / 2
    return largest


def _wasserstein(gap: Floats, binned: Binned) -> Floats:
    if not binned.ordered:
        return _ks(gap, False)
    moved: Floats = np.abs(np.cumsum(gap, axis=-1)[..., :-1]) @ np.diff(binned.middles)
    return moved


def _merged(counts: NDArray[np.int64], binned: Binned) -> Floats:
    """Shares in about ten bins of equally many requests, half a request added to each: PSI is made for those."""
    if binned.ordered:
        rank = (np.cumsum(binned.counts.sum(0)) - 1) * PSI_BINS // binned.requests
        counts = np.add.reduceat(counts, np.unique(rank, return_index=True)[1], axis=-1)
    smooth: Floats = (counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True)
    return smooth


def _described(binned: Binned, edges: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, object]:
    first, last = binned.edges[edges[:-1]], binned.edges[edges[1:]]
    unknown = [None] * len(counts)
    columns: dict[str, object] = {
        "column": [binned.name] * len(counts),
        "window": np.arange(len(counts)),
        "start_s": unknown if binned.time_s is None else binned.time_s[first],
        "end_s": unknown if binned.time_s is None else binned.time_s[last - 1],
        "requests": last - first,
    }
    if not binned.ordered:
        return columns | dict.fromkeys(("mean", *QUANTILES), unknown)
    means = counts @ binned.middles / counts.sum(axis=1)
    return columns | {"mean": means} | {name: quantile(counts, binned, q) for name, q in QUANTILES.items()}


def quantile(counts: NDArray[np.int64], binned: Binned, q: float) -> Floats:
    """The quantile of each row, between the means of the bins."""
    share = (np.cumsum(counts, axis=1) - counts / 2) / counts.sum(axis=1, keepdims=True)
    return np.array([np.interp(q, row, binned.middles) for row in share])


def _most(values: Floats) -> Floats:
    most: Floats = np.nanmax(values, axis=-1)
    return most
