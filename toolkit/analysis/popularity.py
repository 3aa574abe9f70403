"""Who sends, and to which model: shares and a Zipf fit."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.categories import Categories
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.whole import Whole
from toolkit.traces import TraceInfo

LEAST_NAMES = 3
ZIPF = pl.Schema(
    {
        "column": pl.String(),
        "names": pl.Int64(),
        "requests": pl.Int64(),
        "exponent": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "ks": pl.Float64(),
    }
)


class Popularity:
    """Who sends and to which model: shares of models and tenants, and how steeply they fall (Zipf)."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("model", "tenant")

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        return in_one_piece(self, frame, Whole(info, frame.height))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> dict[str, pl.DataFrame]:
        """A part's requests by name, of models and of tenants."""
        return {column: counts(Categories(frame[column]), column) for column in self.columns}

    def finish(self, parts: Sequence[dict[str, pl.DataFrame]], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts."""
        models, tenants = (shares(pl.concat([p[c] for p in parts]), c) for c in self.columns)
        rows = [zipf_row(models, "model"), zipf_row(tenants, "tenant")]
        fitted = pl.DataFrame([row for row in rows if row], schema=ZIPF, orient="row")
        return {"models": models, "tenants": tenants, "zipf": fitted}


def counts(categories: Categories, column: str) -> pl.DataFrame:
    """Requests by name."""
    named = {column: categories.names(), "requests": categories.counted[1]}
    return pl.DataFrame(named, schema={column: pl.String, "requests": pl.Int64})


def shares(parts: pl.DataFrame, column: str) -> pl.DataFrame:
    """Requests by name, most first, equal ones by name; no rows when no request bears a name."""
    counted = parts.group_by(column).agg(pl.col("requests").sum())
    if counted[column].is_null().all():
        counted = counted.clear()
    requests = pl.col("requests")
    return (
        counted.sort("requests", column, descending=[True, False])
        .with_columns(
            rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
            share=requests / requests.sum(),
            cumulative_share=requests.cum_sum() / requests.sum(),
        )
        .select("rank", column, "requests", "share", "cumulative_share")
    )


def zipf_row(table: pl.DataFrame, column: str) -> tuple[object, ...] | None:
    """ZIPF's row for a table of shares; names only, requests without one do not count."""
    counts = table.filter(pl.col(column).is_not_null())["requests"].to_numpy()
    if len(counts) < LEAST_NAMES:
        return None
    exponent, error, ks = zipf(counts)
    return column, len(counts), int(counts.sum()), exponent, exponent - error, exponent + error, ks


def zipf(counts: NDArray[np.int64]) -> tuple[float, float, float]:
    """Most likely s of share ∝ rank^−s over the ranks 1…len(counts), half its 95 % interval, and its KS distance.

    `counts` descend. Newton on the mean log rank, whose derivative in s is minus the variance of the log rank.
    """
    logs, n = np.log(np.arange(1, len(counts) + 1)), int(counts.sum())
    observed, s = float(logs @ counts / n), 1.0
    for _ in range(100):
        p = _zipf_shares(logs, s)
        mean = float(p @ logs)
        variance = float(p @ (logs - mean) ** 2)
        step = np.clip((mean - observed) / max(variance, 1e-300), -1, 1)
        s += float(step)
        if abs(step) < 1e-12:
            break
    p = _zipf_shares(logs, s)
    ks = float(np.abs(np.cumsum(counts) / n - np.cumsum(p)).max())
    return max(s, 0.0), 1.959964 / float(np.sqrt(n * max(variance, 1e-300))), ks


def _zipf_shares(logs: NDArray[np.float64], s: float) -> NDArray[np.float64]:
    weights = np.exp(-s * logs - np.max(-s * logs))
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares
