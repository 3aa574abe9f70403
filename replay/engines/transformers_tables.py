"""From the in-process engine's jobs, steps and events to the tables of a run."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from replay.planning.jobs import Job
from replay.torch_engine.notes import Step
from toolkit.schema import EVENTS, OUTCOMES

ENGINE, GPU = "transformers", "0"
CARRIED = ("model", "tenant", "tier", "predicted_output_tokens", "slo_ttft_s", "slo_tpot_s")
MEASURED = (
    "request_id", "arrival_s", "sent_s", "start_s", "first_token_s", "finish_s", "prompt_tokens", "cached_tokens",
    "output_tokens", "preemptions", "preempted_s", "attempts", "status", "error", "token_s",
)  # fmt: skip


def outcomes_frame(trace: pl.DataFrame, jobs: Sequence[Job]) -> pl.DataFrame:
    """OUTCOMES rows of jobs that have ended, in that order; `sent_s` is when the engine noticed the request."""
    rows = [_row(job) for job in jobs]
    found = pl.DataFrame(rows, schema={name: OUTCOMES[name] for name in MEASURED}, orient="row")
    carried = trace.select(CARRIED)[[job.number for job in jobs]]
    return found.with_columns(carried, engine=pl.lit(ENGINE))


def _row(job: Job) -> tuple[Any, ...]:
    served = job.start_s is not None and job.status != "rejected"
    return (
        job.number,
        job.arrival_s,
        job.taken_s,
        job.start_s if served else None,
        job.times[0] if job.times and served else None,
        job.finish_s if served else None,
        job.prompt or None,
        job.cached if served else None,
        job.produced if served else None,
        job.preemptions,
        job.preempted_s if served else None,
        1,
        job.status,
        job.error,
        [at - job.arrival_s for at in job.times] if served else None,
    )


def timeline_frame(steps: Sequence[Step]) -> pl.DataFrame:
    """TIMELINE rows, one a step."""
    frame = pl.DataFrame(steps, schema=list(Step._fields), orient="row", infer_schema_length=None)
    tokens = pl.col("prefill_tokens") + pl.col("decodes")
    return frame.with_columns(gpu=pl.lit(GPU), batch_tokens=tokens).drop("prefill_tokens", "decodes", "kv_tokens")


def events_frame(events: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """EVENTS rows."""
    names = ("time_s", "kind", "model", "request_id", "bytes", "duration_s", "detail")
    return pl.DataFrame(events, schema={n: EVENTS[n] for n in names}).with_columns(gpu=pl.lit(GPU))
