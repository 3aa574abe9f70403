"""The tables at rest: TRACE, OUTCOMES, TIMELINE, EVENTS, WIRE, SENSITIVITY, SWEEP, CAPACITY, TRUTH, and the one gate
into them.

Everything that is stored or handed from one package to another is a polars frame of one of these schemas; the file of a
trace holds some of its texts as categories (traces.NAMES). Unknown is null, never 0 or an empty string. Times are
seconds (f64) from the start of the trace.
"""

from typing import TypeVar

import polars as pl

from toolkit.errors import InputFailure, nearest

TRACE = pl.Schema(
    {
        "request_id": pl.Int64(),  # 0… in arrival order, ties in source order
        "arrival_s": pl.Float64(),  # null only in session-relative traces, until starts are assigned
        "model": pl.String(),
        "tenant": pl.String(),
        "tier": pl.String(),
        "adapter": pl.String(),
        "kind": pl.String(),
        "session_id": pl.String(),
        "turn": pl.Int32(),
        "parent_id": pl.Int64(),  # request_id of the request that must end first
        "think_s": pl.Float64(),  # wait after the parent ends
        "prompt_tokens": pl.Int32(),
        "output_tokens": pl.Int32(),
        "predicted_output_tokens": pl.Int32(),
        "prefix_blocks": pl.List(pl.UInt64()),
        "slo_ttft_s": pl.Float64(),
        "slo_tpot_s": pl.Float64(),
        "prompt": pl.String(),
        "source_status": pl.String(),  # what the source itself measured
        "source_ttft_s": pl.Float64(),
        "source_e2e_s": pl.Float64(),
    }
)

OUTCOMES = pl.Schema(
    {
        "request_id": pl.Int64(),
        "run_id": pl.String(),
        "model": pl.String(),
        "tenant": pl.String(),
        "tier": pl.String(),
        "engine": pl.String(),
        "arrival_s": pl.Float64(),  # intended
        "sent_s": pl.Float64(),
        "start_s": pl.Float64(),  # first scheduled
        "first_token_s": pl.Float64(),
        "finish_s": pl.Float64(),
        "prompt_tokens": pl.Int32(),
        "cached_tokens": pl.Int32(),
        "output_tokens": pl.Int32(),  # as produced
        "predicted_output_tokens": pl.Int32(),
        "preemptions": pl.Int32(),
        "preempted_s": pl.Float64(),  # time between losing the engine and getting it back, summed
        "alone_s": pl.Float64(),  # E2E of the same request alone on an idle engine, where the engine can tell
        "attempts": pl.Int32(),
        "slo_ttft_s": pl.Float64(),
        "slo_tpot_s": pl.Float64(),
        "status": pl.String(),
        "error": pl.String(),
        "token_s": pl.List(pl.Float32()),  # token times after arrival_s, on request
        "warm_up": pl.Boolean(),  # served, but left out of every metric; null is false
    }
)

STATUSES = ("ok", "rejected", "timeout", "error", "cancelled", "unfinished")

TIMELINE = pl.Schema(
    {
        "run_id": pl.String(),
        "time_s": pl.Float64(),
        "gpu": pl.String(),
        "model": pl.String(),
        "queue": pl.Int32(),
        "running": pl.Int32(),
        "kv_used_blocks": pl.Int64(),
        "kv_total_blocks": pl.Int64(),
        "kv_bytes": pl.Int64(),  # mapped for KV on this GPU
        "resident_bytes": pl.Int64(),
        "batch_tokens": pl.Int32(),
        "step_s": pl.Float64(),
    }
)

EVENTS = pl.Schema(
    {
        "run_id": pl.String(),
        "time_s": pl.Float64(),
        "kind": pl.String(),  # load, evict, migrate, leave, resize, offload, preempt, restore, retry, circuit
        "gpu": pl.String(),
        "model": pl.String(),
        "request_id": pl.Int64(),
        "bytes": pl.Int64(),
        "duration_s": pl.Float64(),
        "detail": pl.String(),
    }
)

WIRE = pl.Schema(
    {
        "run_id": pl.String(),
        "request_id": pl.Int64(),
        "due_s": pl.Float64(),  # when it was to be sent: later than arrival_s where it was held back or sent again
        "sent_s": pl.Float64(),
        "first_byte_s": pl.Float64(),
        "first_token_s": pl.Float64(),
        "last_token_s": pl.Float64(),
        "chunks": pl.Int32(),  # with tokens in them, of which each may hold several
        "disagrees": pl.String(),  # what the server's own count says otherwise than what it sent
    }
)

SENSITIVITY = pl.Schema(
    {
        "run_id": pl.String(),
        "step_time_scale": pl.Float64(),  # every step's time was multiplied by this; 1 is the run itself
        "metric": pl.String(),  # ttft_s, tpot_s, e2e_s, queueing_delay_s
        "quantile": pl.Float64(),
        "value": pl.Float64(),
    }
)

SWEEP = pl.Schema(
    {
        "point": pl.String(),  # a hash of what it was made from
        "placement": pl.String(),
        "scheduler": pl.String(),
        "gpus": pl.Int32(),  # of the cluster's first type
        "load": pl.Float64(),  # times the trace's own
        "slo_scale_ttft": pl.Float64(),  # null: the objectives are the trace's or the models' own
        "slo_scale_tpot": pl.Float64(),
        "seed": pl.Int32(),
        "requests": pl.Int64(),
        "ok": pl.Int64(),
        "rejected": pl.Int64(),
        "with_slo": pl.Int64(),  # requests that have an objective
        "attainment_ttft": pl.Float64(),  # of all offered requests that have the objective
        "attainment_tpot": pl.Float64(),
        "attainment": pl.Float64(),  # of every objective a request has
        "goodput_per_s": pl.Float64(),
        "offered_per_s": pl.Float64(),
        "output_tokens_per_s": pl.Float64(),
        "utilisation": pl.Float64(),  # what the requests take of the GPUs' time, every model by itself
        **{
            f"{metric}_{quantile}_s": pl.Float64()
            for metric in ("ttft", "tpot", "e2e")
            for quantile in ("p50", "p90", "p95", "p99", "p999")  # p999 from 10,000 requests
        },
        "preemptions": pl.Int64(),
        "loads": pl.Int64(),
        "evictions": pl.Int64(),
        "migrations": pl.Int64(),
        "loaded_bytes": pl.Int64(),  # over the links, by loads and migrations
        "simulation_cpu_s": pl.Float64(),
        "error": pl.String(),  # why there are no results; null where there are
    }
)

CAPACITY = pl.Schema(
    {
        "placement": pl.String(),
        "scheduler": pl.String(),
        "gpus": pl.Int32(),  # null where it is what was looked for
        "load": pl.Float64(),  # likewise
        "slo_scale_ttft": pl.Float64(),
        "slo_scale_tpot": pl.Float64(),
        "over": pl.String(),  # gpus (the fewest) or load (the highest)
        "metric": pl.String(),  # joint, ttft or tpot
        "wanted": pl.Float64(),  # attainment
        "capacity": pl.Float64(),  # null: nothing that was allowed is enough
        "capacity_low": pl.Float64(),  # by the ends of the attainment's interval; null: not within what was allowed
        "capacity_high": pl.Float64(),
        "attainment": pl.Float64(),  # at capacity, mean over seeds
        "attainment_low": pl.Float64(),
        "attainment_high": pl.Float64(),
        "utilisation": pl.Float64(),  # at capacity
        "seeds": pl.Int32(),
        "tried": pl.Int32(),  # numbers of GPUs, or loads
        "monotone": pl.Boolean(),  # whether of all that were tried, more GPUs (or less load) never served worse
        "said": pl.String(),  # all of this in a sentence
    }
)

TRUTH = pl.Schema(
    {
        "what": pl.String(),  # rate, state, episode, member, drift, lengths, popularity, …
        "stream": pl.String(),
        "name": pl.String(),  # of the group, the state, the column that drifts …
        "model": pl.String(),  # null: every model of the stream
        "tenant": pl.String(),
        "start_s": pl.Float64(),  # on the trace's clock; null: all of it
        "end_s": pl.Float64(),
        "parameter": pl.String(),
        "value": pl.Float64(),
        "text": pl.String(),  # where the value is no number
    }
)

TABLES = {
    "trace": TRACE,
    "outcomes": OUTCOMES,
    "timeline": TIMELINE,
    "events": EVENTS,
    "wire": WIRE,
    "sensitivity": SENSITIVITY,
    "sweep": SWEEP,
    "capacity": CAPACITY,
}

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def conform(frame: Frame, schema: pl.Schema, *, source: str) -> Frame:
    """The only gate into a table: `schema`'s columns in its order, missing ones null, types cast strictly.

    Raises InputFailure for a column the schema does not know, with the nearest name. A value that does not fit its
    type raises polars' own error when the frame is collected: loaders report such values before they get here.
    """
    have = frame.collect_schema()
    for name in have.names():
        if name not in schema:
            raise InputFailure(f"column '{name}' is not part of the table", where=source, hint=nearest(name, schema))
    return frame.select(
        (pl.col(name).cast(dtype, strict=True) if name in have else pl.lit(None, dtype=dtype)).alias(name)
        for name, dtype in schema.items()
    )
