"""Why a distribution changed: because strata changed themselves, or because the mix of strata did.

Kitagawa's decomposition (Oaxaca–Blinder for distributions). With shares w and distributions F of each stratum,
ΔF = Σ Δw·(F₀ + F₁)∕2 (mix) + Σ (w₀ + w₁)∕2·ΔF (own), exactly. Each part counts as far as it points along ΔF, in the
metric of the change-point search, so the parts of all strata add up to 1.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.drift_bins import SLICE, Binned

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CAUSE = pl.Schema(
    {
        "column": pl.String(),
        "change": pl.Int64(),
        "by": pl.String(),
        "stratum": pl.String(),
        "share_before": pl.Float64(),
        "share_after": pl.Float64(),
        "median_before": pl.Float64(),
        "median_after": pl.Float64(),
        "own": pl.Float64(),
        "mix": pl.Float64(),
    }
)


def causes(binned: Binned, points: list[int], strata: Binned) -> pl.DataFrame:
    """CAUSE for every change point, between the segments that it parts; `strata` bins the same requests."""
    if not points:
        return CAUSE.to_frame()
    tables = segment_counts(binned, points, strata)
    parts = [_rows(binned, strata, change, tables[change], tables[change + 1]) for change in range(len(points))]
    return pl.concat(parts)


def segment_counts(binned: Binned, points: list[int], strata: Binned) -> Ints:
    """Requests by segment, stratum and bin."""
    bins, groups = len(binned.middles), len(strata.middles)
    bounds = [0, *points, binned.requests]
    tables = np.zeros((len(points) + 1, groups * bins), dtype=np.int64)
    for table, begin, end in zip(tables, bounds[:-1], bounds[1:], strict=True):
        for at in range(begin, end, SLICE):
            part = slice(at, min(at + SLICE, end))
            cell = strata.codes[part].astype(np.int32) * bins + binned.codes[part]
            table += np.bincount(cell, minlength=groups * bins)
    return tables.reshape(len(points) + 1, groups, bins)


def decompose(before: Ints, after: Ints, ordered: bool = True) -> tuple[Floats, Floats]:
    """The part of each stratum's own change and of its share's change in the drift, float[strata] each; sums to 1.

    `before` and `after` are requests by stratum and bin. A stratum that is absent on one side changed its share only.
    """
    n0, n1 = before.sum(axis=1, keepdims=True), after.sum(axis=1, keepdims=True)
    w0, w1 = n0 / n0.sum(), n1 / n1.sum()
    shape0 = np.where(n0 > 0, before / np.maximum(n0, 1), after / np.maximum(n1, 1))
    shape1 = np.where(n1 > 0, after / np.maximum(n1, 1), shape0)
    f0, f1 = (_metric(shape, before.sum(0) + after.sum(0), ordered) for shape in (shape0, shape1))
    total = (w1 * f1 - w0 * f0).sum(axis=0)
    length = float(total @ total)
    if length == 0:
        return np.zeros(len(before)), np.zeros(len(before))
    # A mix that grows everywhere by its share cancels: what counts is how far a stratum lies from the whole.
    centre = ((w0 + w1) / 2 * (f0 + f1) / 2).sum(axis=0)
    mix = ((w1 - w0) * ((f0 + f1) / 2 - centre)) @ total / length
    own = ((w0 + w1) / 2 * (f1 - f0)) @ total / length
    return own, mix


def _metric(shape: Floats, whole: Ints, ordered: bool) -> Floats:
    """Distributions as vectors whose squared distance is Anderson and Darling's."""
    share = whole / whole.sum()
    if not ordered:
        spread: Floats = shape / np.sqrt(np.maximum(share, 1e-12))
        return spread
    below = np.cumsum(share)[:-1]
    scaled: Floats = np.cumsum(shape, axis=1)[:, :-1] / np.sqrt(np.maximum(below * (1 - below), 1e-12))
    return scaled


def _rows(binned: Binned, strata: Binned, change: int, before: Ints, after: Ints) -> pl.DataFrame:
    own, mix = decompose(before, after, binned.ordered)
    groups = len(before)
    columns = {
        "column": [binned.name] * groups,
        "change": [change] * groups,
        "by": [strata.name] * groups,
        "stratum": strata.labels,
        "share_before": before.sum(1) / before.sum(),
        "share_after": after.sum(1) / after.sum(),
        "median_before": _medians(before, binned),
        "median_after": _medians(after, binned),
        "own": own,
        "mix": mix,
    }
    return pl.DataFrame(columns, schema=CAUSE)


def _medians(counts: Ints, binned: Binned) -> list[float | None]:
    """Each stratum's median, null where it has no request or bins have no order."""
    found: list[float | None] = []
    for row in counts:
        total = row.sum()
        place = (np.cumsum(row) - row / 2) / max(total, 1)
        found.append(float(np.interp(0.5, place, binned.middles)) if total and binned.ordered else None)
    return found
