"""When do requests come: rate over time, gaps, dispersion of counts, fits, and the profile of a day."""

from datetime import UTC, datetime
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits, ticked_fits
from toolkit.analysis.gaps import counted_gaps
from toolkit.analysis.windows import counts_in, fitting_window_s, whole_windows, window_of
from toolkit.counted import Counted
from toolkit.traces import TraceInfo

Floats = NDArray[np.float64]
DISPERSION_S = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
LEAST_WINDOWS = 5
FINE_STEP = 0.1  # of the mean gap: a coarser clock shapes the gaps, and fits must know it
DAY_S, HOUR_S = 86400.0, 3600.0

_f, _i = pl.Float64(), pl.Int64()
SUMMARY = pl.Schema(
    {
        "requests": _i,
        "span_s": _f,
        "rate_per_s": _f,
        "clock_step_s": _f,
        "zero_gap_share": _f,
        "gap_mean_s": _f,
        "gap_p50_s": _f,
        "gap_p99_s": _f,
        "gap_max_s": _f,
        "gap_cv": _f,
        "note": pl.String(),
    }
)
RATE = pl.Schema({"start_s": _f, "window_s": _f, "requests": _i, "rate_per_s": _f})
DISPERSION = pl.Schema(
    {
        "window_s": _f,
        "windows": _i,
        "mean_requests": _f,
        "index": _f,
        "poisson_low": _f,
        "poisson_high": _f,
        "clock_steps": _f,
    }
)
HOURLY = pl.Schema({"hour": _i, "clock": pl.String(), "requests": _i, "hours": _f, "rate_per_s": _f})


class Arrivals:
    """When requests come: rate, gaps, burstiness by window, fitted gap distributions, daily profile."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s",)

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        arrival_s = frame["arrival_s"].drop_nulls().to_numpy()
        arrival_s = arrival_s - arrival_s[0] if len(arrival_s) else arrival_s
        gaps = counted_gaps(arrival_s, exactly=is_coarse(arrival_s, info.clock_step_s))
        return {
            "summary": summary(arrival_s, gaps, info.clock_step_s),
            "rate": rate(arrival_s, info.clock_step_s),
            "dispersion": dispersion(arrival_s, info.clock_step_s),
            "gap_fits": gap_fits(gaps, info.clock_step_s),
            "hourly": hourly(arrival_s, info.epoch),
        }


def is_coarse(arrival_s: Floats, clock_step_s: float | None) -> bool:
    """Whether the clock shapes the gaps, so that they are few values and each of them counts."""
    return clock_step_s is not None and clock_step_s * len(arrival_s) > FINE_STEP * (
        arrival_s[-1] if len(arrival_s) else 0
    )


def summary(arrival_s: Floats, gaps: Counted, clock_step_s: float | None) -> pl.DataFrame:
    """One row; what needs two requests, or a clock that can tell them apart, is null."""
    if not len(arrival_s):
        return SUMMARY.to_frame()
    span_s = float(arrival_s[-1])
    row: dict[str, object] = {"requests": len(arrival_s), "span_s": span_s, "clock_step_s": clock_step_s}
    if span_s > 0:
        p50, p99 = gaps.quantile([0.5, 0.99])
        hidden = (clock_step_s or 0) > gaps.mean
        row |= {
            "rate_per_s": len(arrival_s) / span_s,
            "zero_gap_share": 1 - gaps.above(0).n / gaps.n,
            "gap_mean_s": gaps.mean,
            "gap_p50_s": p50,
            "gap_p99_s": p99,
            "gap_max_s": gaps.values[-1],
            "gap_cv": None if hidden or gaps.std is None else gaps.std / gaps.mean,
            "note": clock_note(gaps.mean, clock_step_s),
        }
    return pl.DataFrame([row], schema=SUMMARY)


def clock_note(gap_mean_s: float, clock_step_s: float | None) -> str | None:
    """What a coarse clock does to the description of gaps; null when it is fine."""
    if clock_step_s is None or clock_step_s <= FINE_STEP * gap_mean_s:
        return None
    if clock_step_s <= gap_mean_s:
        return f"the clock step of {clock_step_s:g} s is coarse for gaps of {gap_mean_s:.3g} s: fitted as steps of it"
    return f"the clock step of {clock_step_s:g} s hides the gaps, {gap_mean_s:.3g} s on average: no gap CV, no fits"


def rate(arrival_s: Floats, clock_step_s: float | None) -> pl.DataFrame:
    """Requests in windows back to back; a window that the trace ends in counts the part it covers."""
    if not len(arrival_s) or arrival_s[-1] == 0:
        return RATE.to_frame()
    span_s = float(arrival_s[-1])
    window_s = fitting_window_s(span_s, clock_step_s)
    windows = max(1, int(np.ceil(span_s / window_s - 1e-9)))
    counts = counts_in(arrival_s, window_s, windows)
    counts[-1] += len(arrival_s) - counts.sum()  # the last arrival may lie on the last edge
    start_s = np.arange(windows) * window_s
    covered_s = np.minimum(window_s, span_s - start_s)
    columns = {"start_s": start_s, "window_s": np.full(windows, window_s), "requests": counts}
    return pl.DataFrame(columns | {"rate_per_s": counts / covered_s}, schema=RATE)


def dispersion(arrival_s: Floats, clock_step_s: float | None) -> pl.DataFrame:
    """Variance over mean of counts, at windows that the clock can tell and that fit into the span."""
    if not len(arrival_s):
        return DISPERSION.to_frame()
    span_s = float(arrival_s[-1])
    rows = []
    for window_s in DISPERSION_S:
        windows = whole_windows(span_s, window_s)
        if windows >= LEAST_WINDOWS and window_s >= (clock_step_s or 0):
            steps = window_s / clock_step_s if clock_step_s else None
            rows.append((window_s, windows, *_dispersion_at(arrival_s, window_s, windows), steps))
    return pl.DataFrame(rows, schema=DISPERSION, orient="row")


def _dispersion_at(arrival_s: Floats, window_s: float, windows: int) -> tuple[float, float, float, float]:
    """Mean count, index and the Poisson band; empty windows are counted without being made."""
    from scipy.special import chdtri

    index = window_of(arrival_s, window_s)
    counts = Counted.of_sorted(index[: np.searchsorted(index, windows)]).counts
    mean, free = int(counts.sum()) / windows, windows - 1
    variance = (int(counts @ counts) - windows * mean**2) / free
    return mean, variance / mean, float(chdtri(free, 0.975)) / free, float(chdtri(free, 0.025)) / free


def gap_fits(gaps: Counted, clock_step_s: float | None) -> pl.DataFrame:
    """Fits to the gaps above zero; to all as clock steps where the clock is coarse; none where it hides them."""
    families, step_s = list(fits.FAMILIES), clock_step_s or 0.0
    if gaps.n == 0 or step_s > gaps.mean:
        table = fits.TABLE.to_frame()
    elif step_s > FINE_STEP * gaps.mean:
        table = ticked_fits.compare(gaps, step_s, families)
    else:
        table = fits.compare(gaps.above(0), families)
    return table.rename({"requests": "gaps", "mean": "mean_s"})


def hourly(arrival_s: Floats, epoch: str | None) -> pl.DataFrame:
    """Rate by hour of the day, over the time that the trace spends in that hour; for two days and more."""
    if not len(arrival_s) or arrival_s[-1] < 2 * DAY_S:
        return HOURLY.to_frame()
    first_s = _second_of_day(epoch)
    begin_s, end_s = first_s, first_s + float(arrival_s[-1])
    starts_s = np.arange(begin_s // HOUR_S, end_s // HOUR_S + 1) * HOUR_S
    covered_s = np.minimum(starts_s + HOUR_S, end_s) - np.maximum(starts_s, begin_s)
    hours = np.bincount((starts_s // HOUR_S % 24).astype(np.int64), weights=covered_s, minlength=24)
    requests = np.bincount(((arrival_s + first_s) // HOUR_S % 24).astype(np.int64), minlength=24)
    columns = {"hour": np.arange(24), "requests": requests, "hours": hours / HOUR_S, "rate_per_s": requests / hours}
    clock = pl.lit("UTC" if epoch else "trace start").alias("clock")
    return pl.DataFrame(columns).with_columns(clock).select(HOURLY.names()).cast(HOURLY)


def _second_of_day(epoch: str | None) -> float:
    if epoch is None:
        return 0.0
    moment = datetime.fromisoformat(epoch)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return moment.hour * HOUR_S + moment.minute * 60 + moment.second + moment.microsecond / 1e6
