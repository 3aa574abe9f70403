"""Why requests missed their objectives: what took most of the time that was too long."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports.lives import lives
from reports.measured import Measured

Floats = NDArray[np.float64]
CAUSES = {
    "refused": "refused, or failed",
    "load": "its model was being loaded",
    "queue": "it queued for a place",
    "kv": "it lost its place for want of KV memory",
    "steps": "its steps were slow: long prompts, full batches, other models on the GPU",
}


def misses(run: Measured) -> pl.DataFrame:
    """One row a cause: cause, meaning, requests that missed their TTFT objective, their TPOT objective, and either.

    A TTFT miss is put down to the longest of loading, queueing, lost places and prefill; a TPOT miss to lost places
    where those are more than half of what was too long, else to slow steps.
    """
    frame = run.frame.select("slo_ttft_s", "slo_tpot_s", "status")
    asked = frame.select(pl.any_horizontal(pl.col("slo_ttft_s", "slo_tpot_s").is_not_null())).to_series().sum()
    failed = frame.filter(
        (pl.col("status") != "ok") & pl.any_horizontal(pl.col("slo_ttft_s", "slo_tpot_s").is_not_null())
    )
    done = lives(run).frame
    load = loading(done, run)
    late, slow = _ttft(done, load), _tpot(done)
    counts: dict[str, dict[str, int]] = {cause: {"ttft": 0, "tpot": 0, "either": 0} for cause in CAUSES}
    counts["refused"] = dict.fromkeys(("ttft", "tpot", "either"), failed.height)
    for first, second in zip(late, slow, strict=True):
        for name, cause in (("ttft", first), ("tpot", second), ("either", first or second)):
            if cause:
                counts[cause][name] += 1
    rows = [{"cause": c, "meaning": CAUSES[c], **counts[c], "offered": int(asked)} for c in CAUSES]
    return pl.DataFrame(rows)


def loading(rows: pl.DataFrame, run: Measured) -> Floats:
    """Seconds of each row's queueing during which the model that serves it was being loaded, and nowhere else."""
    found = np.zeros(rows.height)
    serving = served(run)
    loads = run.events.filter((pl.col("kind") == "load") & (pl.col("duration_s") > 0))
    names = rows["model"].cast(pl.String)
    for (model,), part in loads.group_by("model"):
        mine = np.flatnonzero(names.is_in([n for n, to in serving.items() if to == model] or [model]).to_numpy())
        passed = _passed(part)
        a, s = (rows[c].to_numpy()[mine] for c in ("arrival_s", "start_s"))
        found[mine] = np.interp(s, *passed) - np.interp(a, *passed)
    return np.clip(found, 0, None)


def served(run: Measured) -> dict[str, str]:
    """The cluster's model that serves each of the trace's, where the run tells."""
    models: list[dict[str, Any]] = (run.info.get("engine") or {}).get("cluster", {}).get("models", [])
    return {name: m["name"] for m in models for name in (m.get("serves") or [m["name"]])}


def _passed(loads: pl.DataFrame) -> tuple[Floats, Floats]:
    """Times, and the seconds of loading that have passed by then."""
    ordered = loads.select("time_s", "duration_s").unique("time_s").sort("time_s")
    begin, seconds = ordered["time_s"].to_numpy(), ordered["duration_s"].to_numpy()
    before = np.concatenate([[0.0], np.cumsum(seconds)[:-1]])
    return np.column_stack([begin, begin + seconds]).ravel(), np.column_stack([before, before + seconds]).ravel()


def _ttft(done: pl.DataFrame, load: Floats) -> list[str | None]:
    late = (done["ttft_s"] > done["slo_ttft_s"]).fill_null(False).to_numpy()
    lost = np.minimum(done["preempted_s"].to_numpy(), done["prefill_s"].to_numpy())
    parts = np.column_stack([load, done["queue_s"].to_numpy() - load, lost, done["prefill_s"].to_numpy() - lost])
    main = np.array(["load", "queue", "kv", "steps"])[np.argmax(parts, axis=1)]
    return [str(cause) if missed else None for cause, missed in zip(main, late, strict=True)]


def _tpot(done: pl.DataFrame) -> list[str | None]:
    slow = (done["tpot_s"] > done["slo_tpot_s"]).fill_null(False).to_numpy()
    excess = (done["tpot_s"] - done["slo_tpot_s"]).fill_null(0.0).to_numpy() * (done["output_tokens"].to_numpy() - 1)
    lost = done["preempted_s"].to_numpy() > excess / 2
    return [("kv" if kv else "steps") if missed else None for missed, kv in zip(slow, lost, strict=True)]
