"""TraceLab's session tables: rounds of coding agents, with the tool's wait after each.

`arrival_time` is the session's own, in milliseconds, and is repeated on every round. A later round begins when the one
before it ends and the tool has answered, so its arrival here is the earliest possible: the session's arrival and the
waits so far, as if every round were served in no time.
"""

from pathlib import Path

import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.tables import Table, read_header, refuse_mapping, resemblance

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
SESSION_RELATIVE = "Sessions have no arrival until starts are assigned; a later round follows the one before it."


class TraceLabSessions:
    """TraceLab session tables (session_id, round_idx, prefix_len, input_len, output_len, tool_wait_after_ms)."""

    def sniff(self, head: bytes, name: str) -> float:
        return resemblance(head, tuple(FIELDS))

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        refuse_mapping(options)
        if all("arrival_time" in read_header(path) for path in paths):
            reason = "TraceLab's arrival_time is in milliseconds"
            return Table(paths, {**FIELDS, **TIME}).scan(
                _timed, time_unit="ms", time_unit_reason=reason, notes=(EARLIEST,)
            )
        reason = "the source has no session starts"
        return Table(paths, FIELDS).scan(_rounds, time_unit=None, time_unit_reason=reason, notes=(SESSION_RELATIVE,))


def _timed(frame: pl.LazyFrame) -> pl.LazyFrame:
    wait_ms = pl.col("tool_wait_after_ms").fill_null(0)
    waited_ms = (wait_ms.cum_sum() - wait_ms).over("session_id", order_by="round_idx")
    return _rounds(frame, arrival=pl.col("arrival_time") + waited_ms)


def _rounds(frame: pl.LazyFrame, **more: pl.Expr) -> pl.LazyFrame:
    session, turn = pl.col("session_id"), pl.col("round_idx")
    before = turn.shift(1).over(session, order_by=turn)
    waited_ms = pl.col("tool_wait_after_ms").shift(1).over(session, order_by=turn)
    return frame.select(
        "drop_reason",
        session_id=session,
        turn=turn,
        source_id=pl.format("{}/{}", session, turn),
        parent_source_id=pl.format("{}/{}", session, before),
        think_s=waited_ms / 1e3,
        prompt_tokens=pl.col("prefix_len") + pl.col("input_len"),
        output_tokens="output_len",
        **more,
    )
