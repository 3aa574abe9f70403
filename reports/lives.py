"""Where the time went: each request's life from arrival to finish, cut into phases that sum to its E2E."""

import numpy as np
import polars as pl

from reports.measured import Measured

PHASES = ("queue_s", "loading_s", "prefill_s", "decode_s", "preempted_s")
SLOWEST = 20
SLICE = 5  # requests around a percentile
SLICES = {"P50": 0.5, "P90": 0.9, "P99": 0.99}
BANDS = {"fastest half": (0.0, 0.5), "P50 to P90": (0.5, 0.9), "P90 to P99": (0.9, 0.99), "slowest 1 %": (0.99, 1.0)}


def lives(run: Measured) -> pl.DataFrame:
    """Requests with a known start, first token and finish, with PHASES; slowest first.

    A preemption falls between start and finish; its time is taken out of decode first and out of prefill for the
    rest, because the tables do not say before which token it happened.
    """
    known = run.frame.lazy().filter(pl.col("status") == "ok").drop_nulls(["start_s", "first_token_s", "finish_s"])
    prefill, decode = pl.col("first_token_s") - pl.col("start_s"), pl.col("finish_s") - pl.col("first_token_s")
    lost = pl.min_horizontal(pl.col("preempted_s").fill_null(0.0), prefill + decode)
    phased = known.with_columns(
        queue_s=pl.col("queueing_delay_s"),
        loading_s=pl.lit(0.0),
        prefill_s=prefill - (lost - decode).clip(lower_bound=0.0),
        decode_s=(decode - lost).clip(lower_bound=0.0),
        preempted_s=lost,
    )
    return phased.sort("e2e_s", "request_id", descending=[True, False]).collect()


def composition(ordered: pl.DataFrame) -> pl.DataFrame:
    """Seconds in each phase, mean a request, for BANDS of E2E; `ordered` is `lives`."""
    n = ordered.height
    rows = []
    for name, (low, high) in BANDS.items():
        part = ordered.slice(round(n * (1 - high)), max(1, round(n * (high - low))))
        rows.append({"band": name, "requests": part.height, **{p: part[p].mean() for p in (*PHASES, "e2e_s")}})
    return pl.DataFrame(rows)


def with_loading(rows: pl.DataFrame, run: Measured) -> pl.DataFrame:
    """Move the part of each row's queueing during which its own model's weights were loading to `loading_s`."""
    loads = run.events.filter((pl.col("kind") == "load") & pl.col("duration_s").is_not_null())
    if loads.is_empty() or rows.is_empty():
        return rows
    begin = loads["time_s"].to_numpy()
    end, model = begin + loads["duration_s"].to_numpy(), loads["model"].to_numpy()
    spent = [
        float(np.clip(np.minimum(end, s) - np.maximum(begin, a), 0, None)[model == m].sum())
        for a, s, m in rows.select("arrival_s", "start_s", pl.col("model").cast(pl.String)).iter_rows()
    ]
    loading = pl.min_horizontal(pl.Series(spent), pl.col("queue_s"))
    return rows.with_columns(loading_s=loading, queue_s=pl.col("queue_s") - loading)


def slices(ordered: pl.DataFrame, run: Measured) -> dict[str, pl.DataFrame]:
    """The requests to look at: the slowest, and a few around P99, P90 and P50 of E2E."""
    n = ordered.height
    found = {f"Slowest {min(SLOWEST, n)}": ordered.head(SLOWEST)}
    for name, level in reversed(SLICES.items()):
        middle = round((n - 1) * (1 - level))
        found[f"Around {name}"] = ordered.slice(max(0, middle - SLICE // 2), SLICE)
    return {name: with_loading(rows, run) for name, rows in found.items()}


def main_phase(bands: pl.DataFrame, band: str = "slowest 1 %") -> tuple[str, float]:
    """The phase that takes most of a band's time, and its share."""
    row = bands.filter(pl.col("band") == band).row(0, named=True)
    phase = max(PHASES, key=lambda p: row[p] or 0.0)
    return phase, (row[phase] or 0.0) / row["e2e_s"] if row["e2e_s"] else 0.0
