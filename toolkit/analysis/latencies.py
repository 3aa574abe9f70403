"""What did the source measure: latency quantiles of finished requests, and how requests ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.samples import Sample, is_exact, rounded
from toolkit.analysis.whole import Whole
from toolkit.counted import Counted
from toolkit.metrics import LATENCIES
from toolkit.stats import Blocked, Floats, bootstrap_counted_interval
from toolkit.traces import TraceInfo

Ints = NDArray[np.int64]
METRICS = ("ttft_s", "tpot_s", "e2e_s", "queueing_delay_s")
POINTS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BLOCKS = 100  # of time, of which the interval's resamples are made

_f, _i = pl.Float64(), pl.Int64()
QUANTILES = pl.Schema(
    {"metric": pl.String(), "requests": _i, "mean": _f}
    | dict.fromkeys(POINTS, _f)
    | {"p99_low": _f, "p99_high": _f, "max": _f}
)
STATUS = pl.Schema({"status": pl.String(), "requests": _i, "share": _f})


@dataclass(frozen=True)
class Measured:
    """A metric in a part of the trace: rounded values by block of time, the smallest and the largest as they were."""

    by_block: Blocked
    least: float
    most: float

    @classmethod
    def of(cls, values: Floats, block: Ints, blocks: int, *, exact: bool) -> "Measured | None":
        """Of values in arrival order, NaN where there is none; null where there is no value."""
        known = ~np.isnan(values)
        if not known.any():
            return None
        values, block = values[known], block[known]
        least, most = float(values.min()), float(values.max())
        if exact:
            return cls(Blocked(values, block, np.ones(len(values), dtype=np.int64), blocks), least, most)
        return cls(_counted(rounded(values), block, blocks), least, most)

    @staticmethod
    def merged(parts: "Sequence[Measured]") -> "Measured":
        """All parts together."""
        every = [part.by_block for part in parts]
        values, block, counts = (
            np.concatenate([getattr(one, name) for one in every]) for name in ("values", "block", "counts")
        )
        least, most = min(part.least for part in parts), max(part.most for part in parts)
        return Measured(Blocked(values, block, counts, every[0].blocks), least, most)

    @property
    def counted(self) -> Counted:
        return Sample(Counted.of(self.by_block.values, self.by_block.counts), self.least, self.most).counted


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
        return in_one_piece(self, frame, Whole.of(frame, info))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> pl.DataFrame:
        """How many of a part's requests ended how."""
        return frame.group_by("status").len("requests").with_columns(pl.col("status").cast(pl.String))

    def told(self, parts: Sequence[pl.DataFrame], whole: Whole) -> list[int]:
        """How many requests of each part finished."""
        return [int(ended.filter(pl.col("status") == "ok")["requests"].sum()) for ended in parts]

    def again(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What was measured of requests that finished."""
        return frame.filter(pl.col("status") == "ok").select(LATENCIES[metric] for metric in METRICS)

    def second(self, rows: pl.DataFrame, whole: Whole) -> dict[str, Measured | None]:
        """Each metric in a part."""
        before, n = sum(whole.seen[: whole.part]), sum(whole.seen)
        blocks = max(1, min(BLOCKS, n))
        block = (before + np.arange(len(rows))) * blocks // max(n, 1)
        return {
            name: Measured.of(column.fill_null(float("nan")).to_numpy(), block, blocks, exact=is_exact(whole))
            for name, column in rows.to_dict().items()
        }

    def finish(
        self, parts: Sequence[tuple[pl.DataFrame, dict[str, Measured | None]]], whole: Whole
    ) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time."""
        rng, rows = np.random.default_rng(self.seed), []
        for metric in METRICS:
            known = [found for _, metrics in parts if (found := metrics[metric]) is not None]
            if known:
                rows.append(_row(metric, Measured.merged(known), sum(whole.seen), rng))
        ended = pl.concat([ended for ended, _ in parts]).group_by("status").agg(pl.col("requests").sum())
        ended = ended.with_columns(share=pl.col("requests") / pl.col("requests").sum())
        ended = ended.sort("requests", "status", descending=True)
        return {"quantiles": pl.DataFrame(rows, schema=QUANTILES, orient="row"), "status": ended.cast(STATUS)}


def _counted(values: Floats, block: Ints, blocks: int) -> Blocked:
    """Equal values of a block once."""
    cells = pl.DataFrame({"value": values, "block": block}).group_by("value", "block").len("count")
    return Blocked(cells["value"].to_numpy(), cells["block"].to_numpy(), cells["count"].cast(_i).to_numpy(), blocks)


def _row(metric: str, found: Measured, finished: int, rng: np.random.Generator) -> tuple[object, ...]:
    sample = found.counted
    interval = bootstrap_counted_interval(found.by_block, finished, 0.99, rng)
    points = sample.quantile(list(POINTS.values()))
    return (metric, sample.n, sample.mean, *points, *interval, found.most)
