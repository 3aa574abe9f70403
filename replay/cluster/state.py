"""What a cluster adds to the simulation's state: engines that hold pages of GPUs, and who lives where.

Engine `e` is instance `e` of the core. A model has two, of which one serves: the other is where it migrates to. Pages
are counted on each GPU of an engine, which are alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from replay.simulation.compiled import compiled
from replay.simulation.latency import Latency
from replay.simulation.state import I32, I64, Records
from toolkit.errors import SettingFailure

# Why the core stopped, beyond state.ENDED … ASKS: a request came for an absent model; an engine has nothing left to do;
# an engine cannot serve anybody and nothing that runs beside it will change that.
MISSED, EMPTIED, STUCK = range(4, 7)

SAMPLE_COLUMNS = 9  # time, stay, queue, running, blocks held, batch tokens, step time, pages, blocks that would fit

ENGINE = np.dtype(
    [
        ("model", "i8"),
        ("status", "i8"),  # toolkit.placing: ABSENT … LEAVING
        ("table", "i8"),  # its latency model's row of the stacked tables
        ("block_bytes", "i8"),
        ("limit", "i8"),  # most pages it may hold
        ("pages", "i8"),  # it holds
        ("held", "i8"),  # blocks of requests
        ("cached", "i8"),  # blocks nobody holds that are still in its cache
        ("granted", "i8"),  # blocks it was shown: held, cached and what it may take
        ("awake", "i8"),  # 1: in the heap of those that have work
        ("blocked", "i8"),  # 1: has work, and waits for others on its GPUs
        ("width", "i8"),  # GPUs it lives on
        ("stay", "i8"),  # which of the controller's stays this is
    ],
    align=True,
)

GPU = np.dtype([("free", "i8"), ("engines", "i8")], align=True)  # pages nobody holds, engines that live there

MODEL = np.dtype(
    [
        ("engine", "i8"),  # that serves it
        ("next", "i8"),  # its next request by the trace's clock: a position in `arrivals`
        ("last", "i8"),  # the position after its last
        ("arrived", "i8"),
        ("active", "i8"),  # when it last had a request
    ],
    align=True,
)

CLUSTER = np.dtype(
    [
        ("page_bytes", "i8"),
        ("contention", "i8"),  # 1024ths of its time that a step loses to each other engine that runs on its GPU
        ("arbitrates", "i8"),  # 1: engines of a GPU admit in the order of one queue
        ("awake", "i8"),  # engines in the heap
        ("starving", "i8"),  # 1: a model has requests and is nowhere
        ("notice", "i8"),  # when the controller is to look at an engine that has nothing left to do
        ("about", "i8"),  # the model (MISSED) or engine (STUCK) that the core stopped for
        ("when", "i8"),  # and when
    ],
    align=True,
)


class Pool(NamedTuple):
    """Who lives where, beside simulation.state.State."""

    cluster: Records  # CLUSTER, one row
    engines: Records  # ENGINE
    gpus: Records  # GPU
    models: Records  # MODEL
    places: I64  # [engine, position]: its GPUs
    hosted: I64  # [gpu, position]: the engines that live there
    model_of: I32  # [request]
    arrivals: I64  # requests that arrive by the trace's clock, by model and then by arrival
    awake: I64  # [slot]: engines that have work, as a binary heap by clock
    clock: I64  # [engine]: its key
    slot: I32  # [engine]


@compiled
def latency_of(tables, k):
    """Row `k` of stacked tables as the core's tables."""
    return Latency(
        tables.dense[k],
        tables.head[k],
        tables.kv_edges[k],
        tables.kv_base[k],
        tables.kv_slope[k],
        tables.chunk_edges[k],
        tables.prior_edges[k],
        tables.prefill[k],
        tables.mixed_axes[k],
        tables.mixed[k],
        tables.skew[k],
        tables.skew_bounds[k],
        tables.shared[k],
    )


def stacked(models: Sequence[Latency]) -> Latency:
    """Lowered latency models as one, a row each; SettingFailure where they are not of a kind."""
    if len({tuple(table.shape for table in model) for model in models}) > 1:
        raise SettingFailure(
            "a cluster's latency models must all be estimates, or all profiles with the same grids", where="latency"
        )
    return Latency(*(np.ascontiguousarray(np.stack(tables)) for tables in zip(*models, strict=True)))
