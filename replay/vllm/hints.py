"""What a replay tells the scheduler inside the engine, in `vllm_xargs`: numbers and texts, in a request's body."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure, SettingFailure, nearest
from toolkit.plugins import plugins, split_spec
from toolkit.schema import TRACE, conform

FIELD = "vllm_xargs"
RUN, REQUEST, ARRIVAL = "trace_run", "trace_request", "trace_arrival_s"  # with each request
SCHEDULER, TABLE, ASK = "trace_scheduler", "trace_table", "trace_ask"  # with the first, and after the last
ERROR = "trace_error"
NOT_SENT = ("prompt", "prefix_blocks", "source_status", "source_ttft_s", "source_e2e_s")  # no scheduler reads them


def announcement(run: int, spec: str, trace: pl.DataFrame, waits: NDArray[np.bool_]) -> dict[str, Any]:
    """Who is in charge of which requests; only turns that wait (`waits`) keep their think time."""
    known = trace.select(name for name in TRACE if name in trace.columns and name not in NOT_SENT)
    think = pl.when(pl.Series(waits)).then(pl.col("think_s"))
    return {RUN: run, SCHEDULER: spec, TABLE: _packed(known.with_columns(think_s=think))}


def trace_of(text: str) -> pl.DataFrame:
    """The table that was announced; InputFailure where it is none."""
    try:
        frame = pl.read_parquet(io.BytesIO(base64.b64decode(text, validate=True)))
        trace = conform(frame, TRACE, source=TABLE)
    except (ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise InputFailure(f"no table ({error})", where=TABLE) from error
    if trace["request_id"].to_list() != list(range(len(trace))):
        raise InputFailure("its request_id do not count from 0", where=TABLE)
    return trace


def checked(spec: str) -> str:
    """A scheduler that is installed: no request may say which file is to be run."""
    name = split_spec(spec)[0]
    if name not in plugins("scheduler"):
        in_file = "register it as an entry point of a package that is installed there"
        hint = in_file if ".py:" in name else nearest(name, plugins("scheduler"))
        raise SettingFailure(f"no scheduler is called '{name}'", where="inside the engine", hint=hint)
    return spec


STARTS = pl.Schema(
    {"request_id": pl.Int64(), "came_s": pl.Float64(), "start_s": pl.Float64(), "preemptions": pl.Int32()}
)


def told(starts: list[tuple[int, float, float | None, int]]) -> str:
    """What the engine did with the requests that have ended, as a table in a text."""
    return _packed(pl.DataFrame(starts, schema=STARTS, orient="row"))


def starts_of(answer: Mapping[str, Any]) -> pl.DataFrame:
    """The table of `told`."""
    return pl.read_parquet(io.BytesIO(base64.b64decode(answer[ASK]))).cast(STARTS)


def _packed(frame: pl.DataFrame) -> str:
    file = io.BytesIO()
    frame.write_parquet(file, compression="zstd")
    return base64.b64encode(file.getvalue()).decode()
