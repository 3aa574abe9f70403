"""What did the source measure: latency quantiles of finished requests, and how requests ended."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl

from toolkit.metrics import LATENCIES
from toolkit.stats import bootstrap_quantile_interval
from toolkit.traces import TraceInfo

METRICS = ("ttft_s", "tpot_s", "e2e_s", "queueing_delay_s")
POINTS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_f, _i = pl.Float64(), pl.Int64()
QUANTILES = pl.Schema(
    {"metric": pl.String(), "requests": _i, "mean": _f}
    | dict.fromkeys(POINTS, _f)
    | {"p99_low": _f, "p99_high": _f, "max": _f}
)
STATUS = pl.Schema({"status": pl.String(), "requests": _i, "share": _f})


class Latencies:
    """What the source measured: quantiles of TTFT, TPOT, E2E and queueing delay, and how requests ended."""

    table: ClassVar[Literal["trace", "outcomes"]] = "outcomes"
    columns: ClassVar[tuple[str, ...]] = (
        *("arrival_s", "start_s", "first_token_s", "finish_s"),
        *("output_tokens", "status"),
    )

    def __init__(self, seed: int = 0):
        self.seed = seed

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        rng = np.random.default_rng(self.seed)
        finished = frame.filter(pl.col("status") == "ok").select(LATENCIES[metric] for metric in METRICS)
        rows = [_row(metric, finished[metric], rng) for metric in METRICS if finished[metric].count()]
        counted = frame.group_by("status").len("requests").with_columns(pl.col("status").cast(pl.String))
        ended = counted.with_columns(share=pl.col("requests") / frame.height).sort(
            "requests", "status", descending=True
        )
        return {"quantiles": pl.DataFrame(rows, schema=QUANTILES, orient="row"), "status": ended.cast(STATUS)}


def _row(metric: str, values: pl.Series, rng: np.random.Generator) -> tuple[object, ...]:
    present = values.drop_nulls().to_numpy()
    p99_interval = bootstrap_quantile_interval(values.fill_null(float("nan")).to_numpy(), 0.99, rng)
    points = np.quantile(present, list(POINTS.values()))
    return (metric, len(present), present.mean(), *points, *p99_interval, present.max())
