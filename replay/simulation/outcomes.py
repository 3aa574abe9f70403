"""From the core's arrays to the tables OUTCOMES, TIMELINE and EVENTS."""

import numpy as np
import polars as pl

from replay.simulation.latency import Latency, alone_all
from replay.simulation.pointing import pointed
from replay.simulation.setup import Limits
from replay.simulation.state import (
    FINISHED,
    I32,
    I64,
    NEVER_PLACED,
    NO_ROOM_BESIDE,
    NOTHING_TO_DO,
    PS,
    TOO_LONG_FOR_MEMORY,
    TOO_LONG_FOR_MODEL,
    UNKNOWN_LENGTH,
    State,
)

CARRIED = ("model", "tenant", "tier", "predicted_output_tokens", "slo_ttft_s", "slo_tpot_s")


def outcomes_frame(trace: pl.DataFrame, state: State, ended: I32, limits: Limits, latency: Latency) -> pl.DataFrame:
    """OUTCOMES rows of the requests in `ended`, in that order."""
    q = state.requests[ended]
    finished = q["status"] == FINISHED
    return pl.DataFrame(
        {
            "request_id": ended.astype(np.int64),
            "arrival_s": q["arrival"] / PS,
            "sent_s": q["arrival"] / PS,
            "start_s": _seconds(q["start"], finished),
            "first_token_s": _seconds(q["first"], finished),
            "finish_s": _seconds(q["finish"], finished),
            "prompt_tokens": q["prompt"],
            "cached_tokens": _where(q["cached"], finished),
            "output_tokens": _where(q["produced"], finished),
            "preemptions": q["preemptions"],
            "preempted_s": _seconds(q["preempted"], finished),
            "alone_s": _seconds(_alone(q["prompt"], q["output"], limits, latency), finished),
            "attempts": np.ones(len(ended), np.int32),
            "status": pl.select(
                pl.when(pl.Series(finished)).then(pl.lit("ok")).otherwise(pl.lit("rejected"))
            ).to_series(),
            "error": _errors(q["reason"], q["prompt"], q["output"], limits),
        }
    ).with_columns(trace.select(CARRIED)[ended], engine=pl.lit("simulated"))


def timeline_frame(rows: I64, limits: Limits) -> pl.DataFrame:
    """TIMELINE rows from the core's samples."""
    return pl.DataFrame(
        {
            "time_s": rows[:, 0] / PS,
            "gpu": _instance(rows[:, 1]),
            "queue": rows[:, 2].astype(np.int32),
            "running": rows[:, 3].astype(np.int32),
            "kv_used_blocks": rows[:, 4],
            "kv_total_blocks": np.full(len(rows), limits.kv_blocks, np.int64),
            "batch_tokens": rows[:, 5].astype(np.int32),
            "step_s": rows[:, 6] / PS,
        }
    )


def events_frame(rows: I64) -> pl.DataFrame:
    """EVENTS rows from the core's preemptions."""
    return pl.DataFrame(
        {
            "time_s": rows[:, 0] / PS,
            "kind": pl.repeat("preempt", len(rows), dtype=pl.String, eager=True),
            "gpu": _instance(rows[:, 1]),
            "request_id": rows[:, 2],
            "detail": pl.select(pl.format("{} tokens of context", pl.Series(rows[:, 3]))).to_series(),
        }
    )


def _instance(numbers: I64) -> pl.Series:
    return pl.Series(numbers).cast(pl.String)


def _seconds(ps: I64, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pl.Series:
    return _where(ps / PS, known)


def _where(values: np.ndarray, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pl.Series:
    """`values` as a column, null where not `known`."""
    if known.all():
        return pl.Series(values)
    return pl.select(pl.when(pl.Series(known)).then(pl.Series(values))).to_series()


def _alone(prompt: I32, output: I32, limits: Limits, latency: Latency) -> I64:
    out = np.zeros(len(prompt), np.int64)
    fits = prompt.astype(np.int64) + output <= limits.max_model_len
    alone_all(
        pointed(latency), np.where(fits, prompt, 0), np.where(fits, output, 1), limits.max_num_batched_tokens, out
    )
    return out


def _errors(reason: np.ndarray, prompt: I32, output: I32, limits: Limits) -> pl.Series:
    if not reason.any():
        return pl.repeat(None, len(reason), dtype=pl.String, eager=True)
    tokens = pl.Series(prompt.astype(np.int64)) + output
    blocks = (tokens - 1 + limits.block_tokens - 1) // limits.block_tokens
    code = pl.Series(reason)
    kept = f", of which {limits.watermark_blocks} stay free" if limits.watermark_blocks else ""
    has = f"{limits.kv_blocks}{kept}"
    texts = {
        TOO_LONG_FOR_MODEL: pl.format(f"{{}} tokens exceed max_model_len {limits.max_model_len}", tokens),
        TOO_LONG_FOR_MEMORY: pl.format(f"needs {{}} KV blocks, the engine has {has}", blocks),
        UNKNOWN_LENGTH: pl.lit("the trace does not tell its prompt_tokens or output_tokens"),
        NOTHING_TO_DO: pl.lit("asks for no prompt or no output tokens"),
        NEVER_PLACED: pl.lit("the placement brought its model to no GPU"),
        NO_ROOM_BESIDE: pl.format("needs {} KV blocks, more than other models' weights leave on the GPU", blocks),
    }
    known = [pl.when(code == number).then(text) for number, text in texts.items()]
    return pl.select(pl.coalesce(*known)).to_series()
