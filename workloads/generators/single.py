"""One arrival process of a given rate, gaps and factors, planted."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from toolkit.protocols import Planted, RateFactor
from workloads.generators.renewal import Gaps, renewal, steady
from workloads.generators.truths import Row, facts, table


def planted(
    rate_per_s: float, gaps: Gaps, factors: Sequence[RateFactor], rng: np.random.Generator, more: Sequence[Row] = ()
) -> Planted:
    """A renewal process at `rate_per_s` times `factors`; `more` is truth besides its own."""

    def requests(edges: Iterable[float]) -> Iterator[pl.DataFrame]:
        for arrival_s in renewal(edges, steady(rate_per_s, *factors), gaps, rng):
            yield pl.DataFrame({"arrival_s": arrival_s})

    shape = {"rate_per_s": rate_per_s, "family": gaps.family, "gap_cv": gaps.cv}
    return Planted(requests, table([*facts("arrivals", shape), *more]))


def positive(**values: float) -> None:
    """Raise ValueError for a value that is not above 0."""
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be above 0")
