"""How sure the split of a drift into own change and mix is: block-bootstrap intervals, and other numbers of strata."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.drift_bins import Binned, coarse, of_names, of_tokens
from toolkit.analysis.drift_cause import decompose

DRAWS, BLOCK = 400, 50  # bootstrap draws, requests in a block
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """The part of a change that is the mix's (the rest is the strata's own), with its 95 % interval."""

    mix: float
    low: float
    high: float


def strata(frame: pl.DataFrame, by: str, groups: int = 8) -> Binned | None:
    """Prompt lengths in `groups` bins, or the names of a column."""
    if by != "prompt_tokens":
        return of_names(frame, by)
    prompts = of_tokens(frame, by)
    return None if prompts is None else coarse(prompts, groups)


def split(frame: pl.DataFrame, before: Mask, after: Mask, by: Binned, rng: np.random.Generator) -> Split:
    """The mix's part of how output tokens differ between two sets of requests."""
    outputs = of_tokens(frame, "output_tokens")
    assert outputs is not None
    assert outputs.requests == by.requests == frame.height
    bins, groups = len(outputs.middles), len(by.middles)
    cells = by.codes.astype(np.int64) * bins + outputs.codes

    def mix(rows: tuple[NDArray[np.int64], NDArray[np.int64]]) -> float:
        tables = [np.bincount(cells[side], minlength=bins * groups).reshape(groups, bins) for side in rows]
        return float(decompose(tables[0], tables[1])[1].sum())

    sides = np.flatnonzero(before), np.flatnonzero(after)
    drawn = [mix((_again(sides[0], rng), _again(sides[1], rng))) for _ in range(DRAWS)]
    return Split(mix(sides), *np.quantile(drawn, (0.025, 0.975)).tolist())


def segments(frame: pl.DataFrame, points: pl.DataFrame) -> Iterator[tuple[Mask, Mask]]:
    """For every change point of a column, who is in the segment before it and who in the one after."""
    ids = frame["request_id"].to_numpy()
    bounds = [ids.min(), *points["request_id"].to_list(), ids.max() + 1]
    for begin, cut, end in zip(bounds, bounds[1:], bounds[2:], strict=False):
        yield (ids >= begin) & (ids < cut), (ids >= cut) & (ids < end)


def _again(rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """As many rows, in blocks that follow each other, with replacement."""
    block = min(BLOCK, max(1, len(rows) // 10))
    starts = rng.integers(0, len(rows) - block + 1, size=-(-len(rows) // block))
    return rows[(starts[:, None] + np.arange(block)).ravel()[: len(rows)]]
