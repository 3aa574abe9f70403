"""Mooncake's request traces (arXiv and FAST'25), and what replay tools write in the same form."""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.clock import PER_SECOND
from workloads.fields import BLOCKS, NAME, NUMBER, TEXT, TIME, TOKENS, Fields, optional
from workloads.outline import LOOKED_AT, outline
from workloads.records import check, line_frame

TIMES_AND_SIZES = {"timestamp": TIME, "input_length": TOKENS, "output_length": TOKENS}
EXTRAS = {"hash_ids": BLOCKS, "text_input": TEXT, "session_id": NAME, "delay": NUMBER}
VARIANT_MARKS = {"text_input", "messages", "payload", "session_id", "delay"}
CANONICAL = {
    "input_length": "prompt_tokens",
    "output_length": "output_tokens",
    "hash_ids": "prefix_blocks",
    "text_input": "prompt",
    "session_id": "session_id",
}
BLOCK_TOKENS = 512
UNIT = "ms"
LATER_TURNS = (
    "a later turn without a timestamp arrives, at the earliest, its delays after the last stamp of its session: that "
    "is its arrival here; a closed loop waits think_s after the parent instead"
)


class Mooncake:
    """Mooncake JSONL: timestamp in ms, lengths, hash_ids of 512-token blocks; also replay tools' sessions and texts."""

    def sniff(self, head: bytes, name: str) -> float:
        keys = outline(head)
        if keys & {"chat_id", "requests", "arrival_s"} or not keys & {"input_length", "text_input"}:
            return 0.0
        if {*TIMES_AND_SIZES, "hash_ids"} <= keys:
            return 1.0
        return 0.9 if "text_input" in keys or keys & {*TIMES_AND_SIZES, *EXTRAS} - {"input_length"} else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        keys = _keys(paths[0])
        frame = line_frame(paths, _fields(keys))
        in_sessions = "session_id" in keys
        requests = _sessions(frame, options.time_unit or UNIT) if in_sessions else frame.select(*_columns(frame))
        return Scan(
            frame=requests if "timestamp" in keys else requests.drop("arrival"),
            time_unit=UNIT,
            time_unit_reason="the format's timestamps are milliseconds",
            block_tokens=BLOCK_TOKENS,
            block_scope="global",
            notes=(LATER_TURNS,) if in_sessions else (),
        )


def _keys(path: Path) -> frozenset[str]:
    with path.open("rb") as file:
        return outline(file.read(LOOKED_AT))


def _fields(keys: frozenset[str]) -> Fields:
    """The original has times and sizes in every line; a tool's variant may leave out any of them."""
    sizes = {n: optional(k) for n, k in TIMES_AND_SIZES.items()} if keys & VARIANT_MARKS else TIMES_AND_SIZES
    return {**sizes, **{name: optional(kind) for name, kind in EXTRAS.items() if name in keys}}


def _columns(frame: pl.LazyFrame) -> list[pl.Expr]:
    have = frame.collect_schema()
    named = [pl.col(source).alias(name) for source, name in CANONICAL.items() if source in have]
    return [pl.col("timestamp").alias("arrival"), pl.col("drop_reason"), *named]


def _sessions(frame: pl.LazyFrame, unit: str) -> pl.LazyFrame:
    """A session's turns follow each other in the file; a later turn needs no time of its own."""
    delay = pl.col("delay") if "delay" in frame.collect_schema() else pl.lit(None, pl.Float64)
    later = pl.col("session_id").is_not_null() & (pl.col("turn") > 0)
    waited = pl.col("delay").fill_null(0).cum_sum().over("session_id")
    earliest = (pl.col("timestamp") - waited).forward_fill().over("session_id") + waited
    turns = frame.with_columns(delay=delay, turn=pl.int_range(pl.len(), dtype=pl.Int32).over("session_id"))
    return turns.with_columns(
        timestamp=pl.when(later).then(pl.coalesce("timestamp", earliest)).otherwise("timestamp"),
    ).select(
        *_columns(turns),
        turn=pl.when(pl.col("session_id").is_not_null()).then("turn"),
        think_s=pl.when(later).then(pl.col("delay") / PER_SECOND[unit]),
        source_id=pl.format("{}#{}", "session_id", "turn"),
        parent_source_id=pl.when(later).then(pl.format("{}#{}", "session_id", pl.col("turn") - 1)),
    )
