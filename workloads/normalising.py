"""Scan -> Trace: kept rows only, times in seconds from the first arrival, in arrival order, numbered."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from toolkit.errors import InputFailure
from toolkit.protocols import Scan
from toolkit.schema import OUTCOMES, STATUSES, TRACE, conform
from toolkit.traces import Trace, TraceInfo
from workloads.clock import PER_SECOND, clock_step, infer_unit, is_epoch
from workloads.counting import Count, count

MOST_TOKENS = 2**31 - 1
TOKENS = ("prompt_tokens", "output_tokens", "predicted_output_tokens")
MAY_BE_NAN = ("think_s", "slo_ttft_s", "slo_tpot_s", "source_ttft_s", "source_e2e_s")  # a number nobody knows is null
MEASURED_TIMES = ("sent", "start", "first_token", "finish")
MEASURED = ("cached_tokens", "error", "token_s")
SUCCEEDED = (
    "ok",
    "success",
    "succeed",
    "succeeded",
    "completed",
    "complete",
    "finished",
    "done",
    "stop",
    "length",
    "200",
)
GIVEN = "given with --time-unit"
UNTOLD = "global"  # scope of prefix blocks of which a source does not tell


@dataclass(frozen=True)
class Named:
    """How a trace is known: its name, its format and a function that hashes its source when that is needed."""

    name: str
    format: str
    sha256: Callable[[], str]


def normalise(scan: Scan, named: Named, time_unit: str | None) -> Trace:
    """Count the scan's rows in one streaming pass and describe the trace lazily.

    Reads again with the loader's `reread` where the source cannot be parsed. Raises InputFailure where no row is kept.
    """
    return told(*_counted(scan, named.name), named, time_unit)


def told(scan: Scan, prepared: pl.LazyFrame, counted: Count, named: Named, time_unit: str | None) -> Trace:
    """The trace of a scan whose rows were counted; `prepared` may be a part of them."""
    if counted.kept == 0:
        raise InputFailure(_nothing_kept(counted), where=named.name, hint="check --format and --map")
    unit, reason = _unit(scan, counted, time_unit)
    kept = _relative(_kept(prepared, counted), counted, unit)
    info = _info(scan, named, counted, unit, reason)
    return Trace(_trace(kept, named.name), info, _outcomes(kept, scan.engine, named.name))


def _counted(scan: Scan, name: str) -> tuple[Scan, pl.LazyFrame, Count]:
    try:
        ready = prepared(scan)
        counted = count(ready)
    except pl.exceptions.PolarsError as error:
        if scan.reread is None:
            raise InputFailure(str(error).splitlines()[0], where=name) from error
        return _counted(replace(scan.reread(), reread=None), name)
    for reason, rows in scan.dropped.items():
        counted.rows += rows
        counted.dropped[reason] = counted.dropped.get(reason, 0) + rows
    return scan, ready, counted


def prepared(scan: Scan) -> pl.LazyFrame:
    """The scan's frame with a numeric `arrival`, a complete `drop_reason` and a `row_hash`."""
    schema = scan.frame.collect_schema()
    frame = scan.frame
    if "row_hash" not in schema:
        frame = frame.with_columns(row_hash=pl.struct(n for n in schema.names() if n != "drop_reason").hash())
    if "arrival" not in schema:
        frame = frame.with_columns(arrival=pl.lit(None, pl.Float64))
    frame = frame.with_columns(_clock(n, schema[n]) for n in ("arrival", *MEASURED_TIMES) if n in schema)
    frame = frame.with_columns(pl.col(n).fill_nan(None) for n in TOKENS if n in schema and schema[n].is_float())
    return frame.with_columns(drop_reason=_reason(schema))


def _clock(name: str, dtype: pl.DataType) -> pl.Expr:
    """A time as Int64 or Float64: a Datetime in nanoseconds since 1970."""
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.epoch("ns")
    return pl.col(name).cast(pl.Int64 if dtype.is_integer() else pl.Float64)


def _reason(schema: pl.Schema) -> pl.Expr:
    reasons = [pl.col("drop_reason")] if "drop_reason" in schema else []
    if "arrival" in schema:
        timeless = pl.col("arrival").is_null() | ~pl.col("arrival").is_finite()
        reasons.append(pl.when(timeless).then(pl.lit("no arrival time")))
    tokens = [pl.col(n) for n in TOKENS if n in schema and schema[n] != pl.Null()]
    if tokens:
        reasons.append(pl.when(pl.any_horizontal(t < 0 for t in tokens)).then(pl.lit("negative tokens")))
        reasons.append(pl.when(pl.any_horizontal(t.floor() != t for t in tokens)).then(pl.lit("fractional tokens")))
        reasons.append(pl.when(pl.any_horizontal(t > MOST_TOKENS for t in tokens)).then(pl.lit("impossible tokens")))
    if "turn" in schema and schema["turn"].is_numeric():
        reasons.append(pl.when(pl.col("turn").abs() > MOST_TOKENS).then(pl.lit("impossible turn")))
    return pl.coalesce(*reasons, pl.lit(None, pl.String))


def _nothing_kept(counted: Count) -> str:
    dropped = ", ".join(f"{rows:,} {reason}" for reason, rows in counted.dropped.items())
    return f"none of {counted.rows:,} rows can be used ({dropped})" if counted.rows else "it holds no rows"


def _unit(scan: Scan, counted: Count, given: str | None) -> tuple[str | None, str | None]:
    if counted.first is None or counted.last is None:
        return None, scan.time_unit_reason
    is_datetime = isinstance(scan.frame.collect_schema()["arrival"], pl.Datetime)
    if given is not None and (given == "datetime") != is_datetime:
        held = "dates" if is_datetime else "numbers"
        raise InputFailure(f"its times are {held}, which cannot be read as '{given}'", where="--time-unit")
    if given is not None:
        return given, GIVEN
    if is_datetime:
        return "datetime", scan.time_unit_reason
    if scan.time_unit is not None:
        return scan.time_unit, scan.time_unit_reason
    return infer_unit(counted.first, counted.last, counted.kept, counted.whole)


def _kept(prepared: pl.LazyFrame, counted: Count) -> pl.LazyFrame:
    """The kept rows in arrival order (ties in source order), numbered; a source in order needs no sort."""
    frame = prepared.filter(pl.col("drop_reason").is_null()) if counted.dropped else prepared
    if not counted.sorted:
        frame = frame.sort("arrival", maintain_order=True)
    frame = frame.drop("drop_reason", "row_hash").with_row_index("request_id")
    return _with_parents(frame.with_columns(pl.col("request_id").cast(pl.Int64)))


def _with_parents(frame: pl.LazyFrame) -> pl.LazyFrame:
    """`parent_source_id` resolved to the parent's request_id: the first request of that name."""
    if "parent_source_id" not in frame.collect_schema():
        return frame
    names = (
        frame.filter(pl.col("source_id").is_not_null()).group_by("source_id").agg(parent_id=pl.col("request_id").min())
    )
    return frame.join(names, left_on="parent_source_id", right_on="source_id", how="left", maintain_order="left")


def _relative(frame: pl.LazyFrame, counted: Count, unit: str | None) -> pl.LazyFrame:
    """Every time in seconds since the first arrival."""
    schema = frame.collect_schema()
    if unit is None or counted.first is None:
        return frame.rename({"arrival": "arrival_s"})
    times = [n for n in ("arrival", *MEASURED_TIMES) if n in schema]
    seconds = {f"{n}_s": _seconds(pl.col(n) - counted.first, PER_SECOND[unit]) for n in times}
    return frame.with_columns(**seconds).drop(times)


def _seconds(since: pl.Expr, per_s: float) -> pl.Expr:
    """`since` divided by `per_s` to the last bit; polars multiplies by the reciprocal, so 52 ms would not be 0.052."""

    def divided(column: pl.Series) -> pl.Series:
        return pl.Series(column.name, column.to_numpy() / per_s).fill_nan(None)

    return since.map_batches(divided, return_dtype=pl.Float64, is_elementwise=True)


def _trace(kept: pl.LazyFrame, name: str) -> pl.LazyFrame:
    schema = kept.collect_schema()
    derived = {}
    for column, time in (("source_ttft_s", "first_token_s"), ("source_e2e_s", "finish_s")):
        if column not in schema and time in schema:
            derived[column] = pl.col(time) - pl.col("arrival_s")
    unknown = [pl.col(n).fill_nan(None) for n in MAY_BE_NAN if n in schema and schema[n].is_float()]
    frame = kept.with_columns(*unknown, **derived)
    return conform(frame.select(n for n in frame.collect_schema().names() if n in TRACE), TRACE, source=name)


def _outcomes(kept: pl.LazyFrame, engine: str, name: str) -> pl.LazyFrame | None:
    """OUTCOMES where the source measured when requests finished; one attempt each."""
    schema = kept.collect_schema()
    if "finish_s" not in schema:
        return None
    frame = kept.with_columns(run_id=pl.lit(name), engine=pl.lit(engine), attempts=pl.lit(1), status=_status(schema))
    return conform(frame.select(n for n in frame.collect_schema().names() if n in OUTCOMES), OUTCOMES, source=name)


def _status(schema: pl.Schema) -> pl.Expr:
    """The loader's word; else what `source_status` says; a request that never finished is unfinished."""
    said = pl.lit(None, pl.String)
    if "source_status" in schema:
        word = pl.col("source_status").str.to_lowercase()
        known = pl.when(word.is_in(STATUSES)).then(word).when(~word.is_in(SUCCEEDED)).then(pl.lit("error"))
        said = known
    if "status" in schema:
        said = pl.coalesce("status", said)
    finished = pl.when(pl.col("finish_s").is_not_null()).then(pl.lit("ok")).otherwise(pl.lit("unfinished"))
    return pl.coalesce(said, finished)


def _info(scan: Scan, named: Named, counted: Count, unit: str | None, reason: str | None) -> TraceInfo:
    timed = unit is not None and counted.first is not None and counted.last is not None
    per_s = PER_SECOND[unit] if unit else 1.0
    step = clock_step(np.concatenate(counted.stamps)) if counted.stamps else None
    return TraceInfo(
        name=named.name,
        format=named.format,
        sha256=named.sha256(),
        rows_read=counted.rows,
        rows_kept=counted.kept,
        dropped=dict(sorted(counted.dropped.items(), key=lambda reason: (-reason[1], reason[0]))),
        span_s=(counted.last - counted.first) / per_s if timed else None,  # type: ignore[operator]
        time_unit=unit,
        time_unit_reason=reason,
        clock_step_s=step / per_s if step is not None and timed else None,
        sorted=counted.sorted,
        duplicates=counted.duplicates,
        epoch=_epoch(counted.first, unit) if timed else None,
        block_tokens=scan.block_tokens,
        block_scope=scan.block_scope or (UNTOLD if "prefix_blocks" in scan.frame.collect_schema() else None),
        token_unit=scan.token_unit,
        notes=scan.notes,
    )


def _epoch(first: float | int | None, unit: str | None) -> str | None:
    """The first arrival as ISO 8601, where the source's clock counts since 1970."""
    if first is None or unit is None or not is_epoch(first, unit):
        return None
    since_1970_ns = int(first) if unit in ("ns", "datetime") else round(first / PER_SECOND[unit] * 1e9)
    return str(np.datetime64(since_1970_ns, "ns")).rstrip("0").rstrip(".")
