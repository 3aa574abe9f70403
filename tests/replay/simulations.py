"""Small traces and a simulated replay that stays in memory, for the tests of the engine."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.simulation.driver import Driver
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits
from replay.simulation.state import NONE
from toolkit.protocols import LatencyModel, Scheduler
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo

Values = NDArray[np.float64]
BLOCK_TOKENS = 16  # of the traces' prefix blocks


@dataclass
class Affine:
    """A latency model simple enough to check by hand."""

    step_s: float = 0.01
    token_s: float = 0.0001
    sequence_s: float = 0.0
    kv_token_s: float = 0.0

    def dense_s(self, tokens: Values) -> Values:
        return self.step_s + self.token_s * tokens

    def head_s(self, sequences: Values) -> Values:
        return self.sequence_s * sequences

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return self.kv_token_s * kv_tokens

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return self.kv_token_s * (chunk + prior)


@dataclass
class Collected:
    """A run folder in memory."""

    tables: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    checkpoint: bytes = b""

    def append(self, name: str, frame: pl.DataFrame) -> None:
        if not frame.is_empty():
            self.tables.setdefault(name, []).append(frame)

    def part_counts(self) -> dict[str, int]:
        return {name: len(frames) for name, frames in self.tables.items()}

    def write_bytes(self, name: str, data: bytes) -> None:
        self.checkpoint = data

    def table(self, name: str) -> pl.DataFrame:
        return pl.concat(self.tables[name]) if name in self.tables else pl.DataFrame()


class Unwatched:
    """Never stops a replay."""

    def progress(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool:
        return False


@dataclass(frozen=True)
class Result:
    """What a replay left: the tables, sorted, and the summary."""

    outcomes: pl.DataFrame
    timeline: pl.DataFrame
    events: pl.DataFrame
    summary: dict[str, object]


def make_trace(rows: list[dict[str, object]] | pl.DataFrame) -> pl.DataFrame:
    """A TRACE from rows in arrival order; request_id counts from 0."""
    frame = rows
    if isinstance(rows, list):
        blocks = {"prefix_blocks": pl.List(pl.UInt64)}
        frame = pl.DataFrame(rows, schema_overrides=blocks, infer_schema_length=None)
    return conform(frame.with_row_index("request_id"), TRACE, source="test")


def prepare(
    trace: pl.DataFrame,
    scheduler: Scheduler,
    limits: Limits,
    latency: LatencyModel | None = None,
    *,
    jump: bool = True,
    closed: bool = True,
    watch: int = NONE,
) -> Driver:
    """A replay that has not begun."""
    lowered = lower(latency or Affine(), limits.max_num_batched_tokens, limits.max_num_seqs, limits.max_model_len)
    span_s = float(trace["arrival_s"].fill_null(0.0).max() or 0.0)
    info = TraceInfo("test", "test", "", len(trace), len(trace), span_s=span_s, block_tokens=BLOCK_TOKENS)
    return Driver.prepare(trace, info, scheduler, limits, lowered, closed=closed, jump=jump, watch=watch)


def simulate(
    trace: pl.DataFrame,
    scheduler: Scheduler,
    limits: Limits,
    latency: LatencyModel | None = None,
    *,
    jump: bool = True,
    closed: bool = True,
) -> Result:
    """Replay `trace` to its end."""
    driver = prepare(trace, scheduler, limits, latency, jump=jump, closed=closed)
    kept = Collected()
    assert driver.run(kept, Unwatched())  # type: ignore[arg-type]
    return result(driver, kept)


def result(driver: Driver, kept: Collected) -> Result:
    outcomes = kept.table("outcomes").sort("request_id")
    summary = {k: v for k, v in driver.summary().items() if k != "simulation_cpu_s"}
    return Result(outcomes, kept.table("timeline"), kept.table("events"), summary)
