"""Why requests missed their objectives: what took most of the time that was too long."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports.lives import Lives
from reports.measured import Measured

Causes = NDArray[np.int64]
NONE = -1
CAUSES = {
    "refused": "refused, or failed",
    "load": "its model was being loaded",
    "queue": "it queued for a place",
    "kv": "it lost its place for want of KV memory",
    "steps": "its steps were slow: long prompts, full batches, other models on the GPU",
}
LOAD, KV, STEPS = (list(CAUSES).index(cause) for cause in ("load", "kv", "steps"))


def misses(run: Measured, found: Lives) -> pl.DataFrame:
    """One row a cause: cause, meaning, requests that missed their TTFT objective, their TPOT objective, and either, and
    how many had any.

    A TTFT miss is put down to the longest of loading, queueing, lost places and prefill; a TPOT miss to lost places
    where those are more than half of what was too long, else to slow steps.
    """
    has = pl.any_horizontal(pl.col("slo_ttft_s", "slo_tpot_s").is_not_null())
    asked = run.frame.select(has.sum()).item()
    failed = run.frame.select((has & (pl.col("status") != "ok")).sum()).item()
    done = found.frame
    late, slow = _ttft(done), _tpot(done)
    causes = list(CAUSES)
    columns = {"ttft": late, "tpot": slow, "either": np.where(late == NONE, slow, late)}
    counts = {name: np.bincount(c[c != NONE], minlength=len(causes)) for name, c in columns.items()}
    for count in counts.values():
        count[causes.index("refused")] = failed
    return pl.DataFrame({"cause": causes, "meaning": list(CAUSES.values()), **counts, "offered": asked})


def _ttft(done: pl.DataFrame) -> Causes:
    """[request] the place in CAUSES of what took longest until its first token; NONE where that was in time."""
    late = (done["ttft_s"] > done["slo_ttft_s"]).fill_null(False).to_numpy()
    lost = np.minimum(done["preempted_s"].to_numpy(), done["prefill_s"].to_numpy())
    waited = [done[name].to_numpy() for name in ("loading_s", "queue_s")]
    parts = np.column_stack([*waited, lost, done["prefill_s"].to_numpy() - lost])
    return np.where(late, LOAD + np.argmax(parts, axis=1), NONE)


def _tpot(done: pl.DataFrame) -> Causes:
    """[request] the place in CAUSES of what slowed its decoding; NONE where that was in time."""
    slow = (done["tpot_s"] > done["slo_tpot_s"]).fill_null(False).to_numpy()
    excess = (done["tpot_s"] - done["slo_tpot_s"]).fill_null(0.0).to_numpy() * (done["output_tokens"].to_numpy() - 1)
    lost = done["preempted_s"].to_numpy() > excess / 2
    return np.where(slow, np.where(lost, KV, STEPS), NONE)
