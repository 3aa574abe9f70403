"""When do requests come: rate over time, gaps, dispersion of counts, fits, and the profile of a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits, ticked_fits
from toolkit.analysis.gaps import EXACT, Gaps
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.tallies import Tally
from toolkit.analysis.whole import Whole
from toolkit.analysis.windows import fitting_window_s, occupied, whole_windows
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


@dataclass(frozen=True)
class Arrived:
    """What arrived in a part of the trace; times count from the whole trace's first arrival."""

    requests: int
    first_s: float
    last_s: float
    gaps: Gaps
    windows: NDArray[np.int64]  # requests in each window of the rate
    tallies: dict[float, Tally]  # by length of the windows
    hours: NDArray[np.int64]  # requests in each hour of the day


class Arrivals:
    """When requests come: rate, gaps, burstiness by window, fitted gap distributions, daily profile."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s",)

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        return in_one_piece(self, frame, Whole.of(frame, info))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Arrived | None:
        """What arrived in a part; null where nothing did."""
        arrival_s = frame["arrival_s"].drop_nulls().to_numpy()
        if not len(arrival_s):
            return None
        arrival_s, step_s = arrival_s - whole.first_s, whole.info.clock_step_s
        exact = whole.requests <= EXACT or is_coarse(whole.requests, whole.span_s, step_s)
        window_s, windows = rate_windows(whole.span_s, step_s)
        return Arrived(
            len(arrival_s),
            float(arrival_s[0]),
            float(arrival_s[-1]),
            Gaps.between(arrival_s, exact=exact),
            spread(occupied(arrival_s, window_s, windows), windows),
            {w: Tally.of(*occupied(arrival_s, w, n)) for w, n in dispersion_windows(whole.span_s, step_s)},
            hours_of(arrival_s, whole.info.epoch),
        )

    def finish(self, parts: Sequence[Arrived | None], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time."""
        found, step_s = together([part for part in parts if part], whole), whole.info.clock_step_s
        gaps = found.gaps.counted
        return {
            "summary": summary(found, gaps, step_s),
            "rate": rate(found, step_s),
            "dispersion": dispersion(found, step_s),
            "gap_fits": gap_fits(gaps, step_s),
            "hourly": hourly(found, whole.info.epoch),
        }


def together(parts: Sequence[Arrived], whole: Whole) -> Arrived:
    """All parts as one, with the gaps across their borders."""
    if not parts:
        return Arrived(
            0, 0.0, 0.0, Gaps.between(np.zeros(0), exact=True), np.zeros(0, np.int64), {}, np.zeros(24, np.int64)
        )
    exact = parts[0].gaps.exact
    across = [Gaps.between(np.array([a.last_s, b.first_s]), exact=exact) for a, b in pairwise(parts)]
    return Arrived(
        sum(p.requests for p in parts),
        parts[0].first_s,
        parts[-1].last_s,
        Gaps.merged([*(p.gaps for p in parts), *across]),
        np.sum([p.windows for p in parts], axis=0),
        {w: reduce(Tally.joined, [p.tallies[w] for p in parts]) for w in parts[0].tallies},
        np.sum([p.hours for p in parts], axis=0),
    )


def is_coarse(requests: int, span_s: float, clock_step_s: float | None) -> bool:
    """Whether the clock shapes the gaps, so that they are few values and each of them counts."""
    return clock_step_s is not None and clock_step_s * requests > FINE_STEP * span_s


def summary(found: Arrived, gaps: Counted, clock_step_s: float | None) -> pl.DataFrame:
    """One row; what needs two requests, or a clock that can tell them apart, is null."""
    if not found.requests:
        return SUMMARY.to_frame()
    span_s = found.last_s
    row: dict[str, object] = {"requests": found.requests, "span_s": span_s, "clock_step_s": clock_step_s}
    if span_s > 0:
        p50, p99 = gaps.quantile([0.5, 0.99])
        hidden = (clock_step_s or 0) > gaps.mean
        row |= {
            "rate_per_s": found.requests / span_s,
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


def rate_windows(span_s: float, clock_step_s: float | None) -> tuple[float, int]:
    """How long a window of the rate is, and how many there are; the last one goes on to the end of the trace."""
    if span_s == 0:
        return 1.0, 0
    window_s = fitting_window_s(span_s, clock_step_s)
    return window_s, max(1, round(span_s / window_s))  # the last request alone in a sliver would be a peak


def rate(found: Arrived, clock_step_s: float | None) -> pl.DataFrame:
    """Requests in windows back to back, the last half to one and a half times as long as the others."""
    if found.last_s == 0:
        return RATE.to_frame()
    window_s, windows = rate_windows(found.last_s, clock_step_s)
    counts = found.windows.copy()
    counts[-1] += found.requests - counts.sum()  # what lies beyond
    start_s = np.arange(windows) * window_s
    length_s = np.full(windows, window_s, dtype=np.float64)
    length_s[-1] = found.last_s - start_s[-1]
    columns = {"start_s": start_s, "window_s": length_s, "requests": counts}
    return pl.DataFrame(columns | {"rate_per_s": counts / length_s}, schema=RATE)


def dispersion_windows(span_s: float, clock_step_s: float | None) -> list[tuple[float, int]]:
    """The windows, length and number, that the clock can tell and that fit into the span."""
    fitting = [(window_s, whole_windows(span_s, window_s)) for window_s in DISPERSION_S]
    return [(w, n) for w, n in fitting if n >= LEAST_WINDOWS and w >= (clock_step_s or 0)]


def spread(found: tuple[NDArray[np.int64], NDArray[np.int64]], windows: int) -> NDArray[np.int64]:
    """A count for every window, 0 where there is none."""
    counts = np.zeros(windows, dtype=np.int64)
    counts[found[0]] = found[1]
    return counts


def dispersion(found: Arrived, clock_step_s: float | None) -> pl.DataFrame:
    """Variance over mean of counts, window by window, beside the band in which Poisson's would lie."""
    rows = []
    for window_s, windows in dispersion_windows(found.last_s, clock_step_s):
        steps = window_s / clock_step_s if clock_step_s else None
        rows.append((window_s, windows, *_dispersion_of(found.tallies[window_s], windows), steps))
    return pl.DataFrame(rows, schema=DISPERSION, orient="row")


def _dispersion_of(found: Tally, windows: int) -> tuple[float, float, float, float]:
    """Mean count, index and the Poisson band."""
    from scipy.special import chdtri

    mean, free = found.total / windows, windows - 1
    variance = (found.all_squares - windows * mean**2) / free
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


def hours_of(arrival_s: Floats, epoch: str | None) -> NDArray[np.int64]:
    """Requests in each hour of the day, of ascending arrivals."""
    begin_s = _second_of_day(epoch)
    first, last = ((arrival_s[[0, -1]] + begin_s) // HOUR_S).astype(np.int64)
    hour = np.arange(first, last + 1)
    clock_s = arrival_s + begin_s if begin_s else arrival_s
    requests = np.diff(np.searchsorted(clock_s, (hour + 1) * HOUR_S), prepend=0)
    return np.bincount(hour % 24, weights=requests, minlength=24).astype(np.int64)


def hourly(found: Arrived, epoch: str | None) -> pl.DataFrame:
    """Rate by hour of the day, over the time that the trace spends in that hour; for two days and more."""
    if found.last_s < 2 * DAY_S:
        return HOURLY.to_frame()
    begin_s = _second_of_day(epoch)
    end_s = begin_s + found.last_s
    starts_s = np.arange(begin_s // HOUR_S, end_s // HOUR_S + 1) * HOUR_S
    covered_s = np.minimum(starts_s + HOUR_S, end_s) - np.maximum(starts_s, begin_s)
    hours = np.bincount((starts_s // HOUR_S % 24).astype(np.int64), weights=covered_s, minlength=24)
    requests = found.hours
    columns = {"hour": np.arange(24), "requests": requests, "hours": hours / HOUR_S, "rate_per_s": requests / hours}
    clock = pl.lit("UTC" if epoch else "trace start").alias("clock")
    return pl.DataFrame(columns).with_columns(clock).select(HOURLY.names()).cast(HOURLY)


def _second_of_day(epoch: str | None) -> float:
    if epoch is None:
        return 0.0
    moment = datetime.fromisoformat(epoch)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return moment.hour * HOUR_S + moment.minute * 60 + moment.second + moment.microsecond / 1e6
