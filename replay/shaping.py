"""What is done to a trace's arrivals before it is replayed, what cannot be, and which of its requests only warm up."""

from typing import Any

import numpy as np
import polars as pl

from toolkit.errors import InputFailure, SettingFailure


def ramped(frame: pl.DataFrame, ramp_s: float | None) -> pl.DataFrame:
    """The trace with a rate that grows evenly from 0 to its own within the first `ramp_s` seconds.

    No request is left out: what arrived in half of that time is spread over all of it, and the rest comes later.
    """
    if not ramp_s:
        return frame
    at = frame["arrival_s"].to_numpy()
    spread = np.where(at <= ramp_s / 2, np.sqrt(2 * ramp_s * np.maximum(at, 0.0)), at + ramp_s / 2)
    return frame.with_columns(arrival_s=pl.Series(spread, dtype=pl.Float64).fill_nan(None))


def refuse_circles(frame: pl.DataFrame, name: str) -> None:
    """Raise InputFailure where requests wait for one another in a circle: none of them would ever be sent."""
    waits = pl.col("parent_id").is_not_null() & pl.col("think_s").is_not_null()
    before = frame.select(pl.when(waits).then("parent_id").fill_null(-1)).to_series().to_numpy()
    if (before < frame["request_id"].to_numpy()).all():
        return
    for _ in range(len(frame).bit_length()):  # twice as far back each time
        before = np.where(before >= 0, before[before], -1)
    stuck = np.flatnonzero(before >= 0)
    if stuck.size:
        what = f"{stuck.size:,} requests wait for one another in a circle, as request {stuck[0]} does"
        raise InputFailure(what, where=name, hint="mend parent_id, or leave out think_s")


def warm_up_of(text: str | None) -> dict[str, Any] | None:
    """Read `30s` (arrivals of so many seconds) or `100` (so many requests)."""
    if text is None:
        return None
    number, unit = (text[:-1], "before_s") if text.endswith("s") else (text, "requests")
    try:
        value = float(number) if unit == "before_s" else int(number)
    except ValueError as error:
        hint = "write 30s or, for a number of requests, 100"
        raise SettingFailure(f"'{text}' is neither seconds nor requests", where="--warm-up", hint=hint) from error
    if not value > 0:
        raise SettingFailure("must be above 0", where="--warm-up")
    return {unit: value}
