"""The same replay with every step a little faster or slower: how far an error of the latency model would carry.

Near saturation a step time that is 5 % off moves the tail by much more than 5 %, so a result comes with its band.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from replay.simulation.latency import SHARES, Latency
from replay.simulation.state import F64, FINISHED, I64, PS, Records, State

SCALES = (0.90, 0.95, 1.05, 1.10)
TAIL = 1.0 - np.geomspace(1.0, 1e-4, 49)[1:]  # quantiles evenly spaced on the axis of the tail chart
QUANTILES = np.unique(np.round(np.concatenate([TAIL, [0.5, 0.9, 0.95, 0.99, 0.999]]), 6))


def scaled(latency: Latency, factor: float) -> Latency:
    """The lowered model with every time multiplied by `factor`."""
    whole = SHARES if latency.skew.size else 1  # what the tables of a model with shares must be multiples of

    def times(table: I64) -> I64:
        product: I64 = np.rint(table * (factor / whole)).astype(np.int64) * whole
        return product

    return latency._replace(
        dense=times(latency.dense),
        head=times(latency.head),
        kv_base=times(latency.kv_base),
        kv_slope=times(latency.kv_slope),
        shared=times(latency.shared),
        prefill=latency.prefill * factor,
        mixed=latency.mixed * factor,
    )


def quantile_rows(state: State, scale: float) -> pl.DataFrame:
    """SENSITIVITY rows of a replay that has ended; values are not a number where no request has the metric."""
    frames = [
        pl.DataFrame({"step_time_scale": scale, "metric": name, "quantile": QUANTILES, "value": values})
        for name, values in _quantiles(state.requests.view(np.ndarray))
    ]
    return pl.concat(frames)


def _quantiles(q: Records) -> Iterator[tuple[str, F64]]:
    finished = q["status"] == FINISHED
    arrival, first, finish = (q[name][finished] for name in ("arrival", "first", "finish"))
    output = q["output"][finished]
    several = output > 1
    yield "ttft_s", _of(first - arrival)
    yield "e2e_s", _of(finish - arrival)
    yield "queueing_delay_s", _of(q["start"][finished] - arrival)
    yield "tpot_s", _of((finish - first)[several] / (output[several] - 1))


def _of(values: I64 | F64) -> F64:
    """The quantiles of picoseconds, in seconds."""
    if not len(values):
        return np.full(len(QUANTILES), np.nan)
    values.sort()  # np.quantile selects each quantile's neighbours anew, which takes longer than to sort
    found: F64 = np.quantile(values, QUANTILES, overwrite_input=True)
    return found / PS
