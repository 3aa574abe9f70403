"""How long requests waited for the weights of the model that serves them."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports.measured import Measured

Floats = NDArray[np.float64]


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
