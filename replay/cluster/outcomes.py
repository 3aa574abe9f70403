"""From a cluster's arrays to OUTCOMES, TIMELINE and EVENTS."""

import numpy as np
import polars as pl

from replay.cluster.controller import Controller, Stay
from replay.cluster.hosting import Hosting
from replay.simulation import outcomes
from replay.simulation.latency import Latency
from replay.simulation.state import I32, I64, PS, State


def outcomes_frame(hosting: Hosting, state: State, ended: I32, alone: list[Latency]) -> pl.DataFrame:
    """OUTCOMES rows of the requests in `ended`, a model after the other; `alone` is each model's latency by itself."""
    owner = hosting.model_of[ended]
    frames = [
        outcomes.outcomes_frame(hosting.trace, state, ended[owner == m], hosting.limits[m], alone[m])
        for m in np.unique(owner)
    ]
    return pl.concat(frames)


def timeline_frame(controller: Controller, rows: I64) -> pl.DataFrame:
    """TIMELINE rows from the core's samples: one for each GPU of an engine."""
    page_bytes = controller.hosting.cluster.sharing.page_bytes
    frame = pl.DataFrame(
        {
            "time_s": rows[:, 0] / PS,
            "stay": rows[:, 1],
            "queue": rows[:, 2].astype(np.int32),
            "running": rows[:, 3].astype(np.int32),
            "kv_used_blocks": rows[:, 4],
            "kv_total_blocks": rows[:, 8],
            "kv_bytes": rows[:, 7] * page_bytes,
            "batch_tokens": rows[:, 5].astype(np.int32),
            "step_s": rows[:, 6] / PS,
        }
    )
    where = _stays_frame(controller, np.unique(rows[:, 1]))
    return frame.join(where, on="stay", how="left", maintain_order="left").drop("stay").explode("gpu")


def _stays_frame(controller: Controller, numbers: I64) -> pl.DataFrame:
    stays = [controller.stays[int(n)] for n in numbers]
    hosting = controller.hosting
    return pl.DataFrame(
        {
            "stay": numbers,
            "gpu": pl.Series([[hosting.gpu_names[g] for g in s.gpus] for s in stays], dtype=pl.List(pl.String)),
            "model": pl.Series([hosting.replicas[s.model].name for s in stays], dtype=pl.String),
            "resident_bytes": pl.Series([s.resident_bytes for s in stays], dtype=pl.Int64),
        }
    )


def preemptions_frame(controller: Controller, rows: I64) -> pl.DataFrame:
    """EVENTS rows of requests that lost their place."""
    stays = [_stay_of(controller, int(at)) for at in rows[:, 1]]
    hosting = controller.hosting
    return outcomes.events_frame(rows).with_columns(
        gpu=pl.Series([hosting.gpu_names[s.gpus[0]] for s in stays], dtype=pl.String),
        model=pl.Series([hosting.replicas[s.model].name for s in stays], dtype=pl.String),
    )


def _stay_of(controller: Controller, at: int) -> Stay:
    """What a row says: an engine, or a stay that has ended (-1 - its number)."""
    return controller.stays[-1 - at if at < 0 else int(controller.pool.engines["stay"][at])]
