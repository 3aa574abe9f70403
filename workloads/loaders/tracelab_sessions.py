"""TraceLab's session tables: rounds of coding agents, with the tool's wait after each.

`arrival_time` is the session's own, in milliseconds, and is repeated on every round. A later round begins when the one
before it ends and the tool has answered, so its arrival here is the earliest possible: the session's arrival and the
waits so far, as if every round were served in no time.
"""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.tables import Table, read_header, resemblance

FIELDS = {
    "session_id": pl.String(),
    "round_idx": pl.Int64(),
    "prefix_len": pl.Int64(),
    "input_len": pl.Int64(),
    "output_len": pl.Int64(),
    "tool_wait_after_ms": pl.Float64(),
}
TIME = {"arrival_time": pl.Float64()}
EARLIEST = "A later round's arrival is its earliest: the waits of the session so far, without any service time."
FROM_ZERO = "The source has no session starts: every session starts at 0."


class TraceLabSessions:
    """TraceLab session tables (session_id, round_idx, prefix_len, input_len, output_len, tool_wait_after_ms)."""

    def sniff(self, head: bytes, name: str) -> float:
        return resemblance(head, tuple(FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        timed = any("arrival_time" in read_header(path) for path in paths)
        return Table(paths, FIELDS, TIME).scan(
            _build,
            time_unit="ms",
            time_unit_reason="TraceLab's arrival_time and tool_wait_after_ms are in milliseconds",
            notes=(EARLIEST,) if timed else (FROM_ZERO, EARLIEST),
        )


def _build(frame: pl.LazyFrame) -> pl.LazyFrame:
    session, turn = pl.col("session_id"), pl.col("round_idx")
    wait_ms = pl.col("tool_wait_after_ms").fill_null(0)
    waited_ms = (wait_ms.cum_sum() - wait_ms).over(session, order_by=turn)
    before = turn.shift(1).over(session, order_by=turn)
    return frame.select(
        "drop_reason",
        arrival=pl.when(session.is_not_null()).then(pl.col("arrival_time").fill_null(0) + waited_ms),
        session_id=session,
        turn=turn,
        source_id=pl.format("{}/{}", session, turn),
        parent_source_id=pl.format("{}/{}", session, before),
        think_s=pl.when(before.is_not_null()).then(wait_ms.shift(1).over(session, order_by=turn) / 1e3),
        prompt_tokens=pl.col("prefix_len") + pl.col("input_len"),
        output_tokens="output_len",
    )
