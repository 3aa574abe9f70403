"""Where the time went: each request's life from arrival to finish, cut into phases that sum to its E2E."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports.loading import loading
from reports.measured import Measured

PHASES = ("queue_s", "loading_s", "prefill_s", "decode_s", "preempted_s")
SLOWEST = 20
SLICE = 5  # requests around a percentile
SLICES = {"P50": 0.5, "P90": 0.9, "P99": 0.99}
BANDS = {"fastest half": (0.0, 0.5), "P50 to P90": (0.5, 0.9), "P90 to P99": (0.9, 0.99), "slowest 1 %": (0.99, 1.0)}


@dataclass(frozen=True)
class Lives:
    """Requests with a known start, first token and finish, with PHASES; `order` lists their rows, slowest first."""

    frame: pl.DataFrame
    order: NDArray[np.int64]

    def rows(self, start: int, count: int) -> pl.DataFrame:
        """The rows from place `start` of the order."""
        return self.frame[self.order[start : start + count]]


def lives(run: Measured) -> Lives:
    """Each completed request's time, cut into PHASES; waiting while its model's weights were loading is `loading_s`.

    A preemption falls between start and finish; its time is taken out of decode first and out of prefill for the
    rest, because the tables do not say before which token it happened.
    """
    known = run.frame.lazy().filter(pl.col("status") == "ok").drop_nulls(["start_s", "first_token_s", "finish_s"])
    prefill, decode = pl.col("first_token_s") - pl.col("start_s"), pl.col("finish_s") - pl.col("first_token_s")
    lost = pl.min_horizontal(pl.col("preempted_s").fill_null(0.0), prefill + decode)
    frame = known.with_columns(
        queue_s=pl.col("queueing_delay_s"),
        prefill_s=prefill - (lost - decode).clip(lower_bound=0.0),
        decode_s=(decode - lost).clip(lower_bound=0.0),
        preempted_s=lost,
    ).collect()
    load = pl.min_horizontal(pl.Series(loading(frame, run)), "queue_s")
    frame = frame.with_columns(loading_s=load, queue_s=pl.col("queue_s") - load)
    return Lives(frame, np.argsort(-frame["e2e_s"].to_numpy(), kind="stable"))


def composition(found: Lives) -> pl.DataFrame:
    """Seconds in each phase, mean a request, for BANDS of E2E."""
    n = len(found.order)
    phases = found.frame.select(*PHASES, "e2e_s")
    rows = []
    for name, (low, high) in BANDS.items():
        first = round(n * (1 - high))
        part = phases[found.order[first : first + max(1, round(n * (high - low)))]]
        rows.append({"band": name, "requests": part.height, **part.mean().row(0, named=True)})
    return pl.DataFrame(rows)


def slices(found: Lives) -> dict[str, pl.DataFrame]:
    """The requests to look at: the slowest, and a few around P99, P90 and P50 of E2E."""
    n = len(found.order)
    chosen = {f"Slowest {min(SLOWEST, n)}": found.rows(0, SLOWEST)}
    for name, level in reversed(SLICES.items()):
        middle = round((n - 1) * (1 - level))
        chosen[f"Around {name}"] = found.rows(max(0, middle - SLICE // 2), SLICE)
    return chosen


def main_phase(bands: pl.DataFrame, band: str = "slowest 1 %") -> tuple[str, float]:
    """The phase that takes most of a band's time, and its share."""
    row = bands.filter(pl.col("band") == band).row(0, named=True)
    phase = max(PHASES, key=lambda p: row[p] or 0.0)
    return phase, (row[phase] or 0.0) / row["e2e_s"] if row["e2e_s"] else 0.0
