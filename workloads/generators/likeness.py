"""What a trace is like: for each model its share, its rate over time, the unevenness of its gaps, and its rows.

The course of the whole trace is counted in buckets and split into a slow part (a moving average over a 24th of the
span, or an hour where there are days) and a fast one. Counts vary more than the rate behind them: what chance alone
adds to their variance is taken out by shrinking towards the mean. What remains of the gaps, measured in operational
time, gives the CV.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure
from toolkit.traces import Trace
from workloads.generators.renewal import Gaps, Sampled

Floats = NDArray[np.float64]
MOST_BUCKETS = 20_000
A_BUCKET = 20  # requests, on average
MOST_MODELS = 256  # beyond them models share one fit
LEAST = 20  # requests below which gaps say nothing
NEEDS = f"--like needs arrival times that differ and {LEAST} requests"
DAY_S = 86_400.0
MARKS = ("model", "tenant", "tier", "kind", "adapter", "prompt_tokens", "output_tokens", "predicted_output_tokens",
         "slo_ttft_s", "slo_tpot_s")  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """One model (or the rest together): its requests' share, its own course beside the whole's, its gaps and rows."""

    model: str | None
    share: float
    course: Floats  # factor on the whole's course in each bucket, mean near 1
    gaps: Gaps | Sampled
    rows: pl.DataFrame  # arrival_s and MARKS, by arrival


@dataclass(frozen=True)
class Likeness:
    """A trace's fit. `slow` and `fast` multiply to the rate over the mean, bucket by bucket."""

    rate_per_s: float
    span_s: float
    period_s: float  # after which the slow course repeats
    bucket_s: float
    slow: Floats
    fast: Floats
    models: tuple[Fitted, ...]
    clock_step_s: float | None
    notes: tuple[str, ...]


def fit(trace: Trace) -> Likeness:
    """Fit `trace`, which must have arrivals and at least LEAST requests."""
    info = trace.info
    present = [c for c in MARKS if c in trace.frame.collect_schema().names()]
    frame = trace.frame.select("arrival_s", *present).collect(engine="streaming")
    if info.span_s is None or frame["arrival_s"].null_count() or len(frame) < LEAST or info.span_s <= 0:
        raise InputFailure("cannot be fitted", where=info.name, hint=NEEDS)
    frame = frame.with_columns(pl.col("arrival_s") - pl.col("arrival_s").min())
    span_s = float(frame["arrival_s"][-1])
    bucket_s = _bucket_s(len(frame), span_s, info.clock_step_s)
    cuts: Floats = np.arange(0, int(np.ceil(span_s / bucket_s)) + 1) * np.float64(bucket_s)
    arrival_s = frame["arrival_s"].to_numpy()
    ticking = info.clock_step_s is not None and info.clock_step_s > 0.2 * span_s / len(frame)
    counts = _counts(arrival_s, cuts)
    slow = _slow(counts, bucket_s, span_s)
    fast = _fast(counts, slow, 1.0 if ticking else _gaps(arrival_s, slow, cuts).cv)
    whole = slow * fast
    parts = _parts(frame)
    fitted = balanced([_fitted(model, rows, len(frame), whole, cuts, ticking) for model, rows in parts], whole)
    return Likeness(
        len(frame) / span_s, span_s, _period_s(span_s), bucket_s, slow, fast, fitted, info.clock_step_s,
        tuple(_notes(trace, ticking)),
    )  # fmt: skip


def _bucket_s(requests: int, span_s: float, step_s: float | None) -> float:
    """Wide enough for A_BUCKET requests and two steps of the clock, and not too many of them."""
    wanted = max(A_BUCKET * span_s / requests, span_s / MOST_BUCKETS, 2 * (step_s or 0.0))
    return min(wanted, span_s / 2)


def _period_s(span_s: float) -> float:
    """Whole days where there are two or more, else the trace."""
    return span_s // DAY_S * DAY_S if span_s >= 2 * DAY_S else span_s


def _counts(arrival_s: Floats, cuts: Floats) -> Floats:
    return np.histogram(arrival_s, np.append(cuts[:-1], np.inf))[0].astype(np.float64)


def _slow(counts: Floats, bucket_s: float, span_s: float) -> Floats:
    """The slow course of the rate, mean 1."""
    width_s = min(span_s / 24, 3600.0)
    smooth = _smoothed(counts, max(1, round(width_s / bucket_s)))
    slow: Floats = _shrunk(smooth, smooth.mean() / max(1.0, width_s / bucket_s)) / smooth.mean()
    return slow


def _fast(counts: Floats, slow: Floats, cv: float) -> Floats:
    """What is left beside the slow course, beyond what gaps of this CV do to the counts."""
    expected = np.maximum(slow * counts.mean(), 1e-9)
    ratio = counts / expected
    noise = max(cv, 1.0) ** 2 * float(np.mean(1 / np.maximum(expected, 0.5)))
    fast = np.maximum(1 + (ratio - 1) * _signal(ratio, noise), 0.0)
    scaled: Floats = fast / max(float((fast * slow).mean()), 1e-9)
    return scaled


def _smoothed(values: Floats, width: int) -> Floats:
    """A centred moving average; at the ends over what there is."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + (width + 1) // 2, len(values))
    smooth: Floats = (sums[high] - sums[low]) / (high - low)
    return smooth


def _signal(values: Floats, noise_variance: float) -> float:
    """The share of the standard deviation that chance does not explain."""
    variance = float(values.var())
    return max(0.0, 1 - noise_variance / variance) ** 0.5 if variance > 0 else 0.0


def _shrunk(values: Floats, noise_variance: float) -> Floats:
    mean = values.mean()
    shrunk: Floats = np.maximum(mean + (values - mean) * _signal(values, noise_variance), 0.0)
    return shrunk


def balanced(fitted: list[Fitted], whole: Floats) -> tuple[Fitted, ...]:
    """With courses that together are the whole's: what each has by chance must not add up to bursts of all."""
    together = np.sum([one.share * one.course for one in fitted], axis=0)
    courses = [one.course / np.maximum(together, 1e-9) for one in fitted]
    scaled = [course / max(float((course * whole).mean()), 1e-9) for course in courses]
    return tuple(replace(one, course=course) for one, course in zip(fitted, scaled, strict=True))


def _parts(frame: pl.DataFrame) -> list[tuple[str | None, pl.DataFrame]]:
    """Each model's rows, the busiest first; the rest beyond MOST_MODELS together, as None."""
    if "model" not in frame.columns or frame["model"].n_unique() == 1:
        name = frame["model"][0] if "model" in frame.columns else None
        return [(name, frame)]
    busiest = frame["model"].value_counts(sort=True).sort("count", "model", descending=[True, False])["model"]
    named = [name for name in busiest.head(MOST_MODELS) if name is not None]
    parts = frame.filter(pl.col("model").is_in(named)).partition_by("model", as_dict=True)
    found: list[tuple[str | None, pl.DataFrame]] = [(name, parts[(name,)]) for name in named]
    rest = frame.filter(~pl.col("model").is_in(named).fill_null(False))
    return [*found, *([(None, rest)] if len(rest) else [])]


def _fitted(model: str | None, rows: pl.DataFrame, total: int, whole: Floats, cuts: Floats, ticking: bool) -> Fitted:
    share, arrival_s = len(rows) / total, rows["arrival_s"].to_numpy()
    course = np.ones(len(whole))
    if share < 1:
        expected = np.maximum(whole * len(rows) / len(whole), 1e-9)
        counts = _counts(arrival_s, cuts)
        width = max(1, round(A_BUCKET / max(expected.mean(), 1e-9)))  # enough buckets to see it
        ratio = _smoothed(counts, width) / np.maximum(_smoothed(expected, width), 1e-9)
        noise = 1 / max(expected.mean() * width, 0.5)
        course = np.maximum(1 + (ratio - 1) * _signal(ratio, noise), 0.0)
        course = course / max(float((course * whole).mean()), 1e-9)
    gaps = Gaps("exponential") if ticking else _gaps(arrival_s, whole * course, cuts)
    return Fitted(model, share, course, gaps, rows)


def _gaps(arrival_s: Floats, level: Floats, cuts: Floats) -> Gaps | Sampled:
    """The gaps on a clock that runs as fast as the fitted rate; exponential where there are too few."""
    clock = np.concatenate([[0.0], np.cumsum(np.maximum(level, 1e-3) * np.diff(cuts))])
    gaps = np.sort(np.diff(np.interp(arrival_s, cuts, clock)))
    return Sampled(gaps) if len(gaps) >= LEAST and gaps[-1] > gaps[0] else Gaps("exponential")


def _notes(trace: Trace, ticking: bool) -> list[str]:
    notes = []
    if ticking:
        notes.append(
            f"The source's clock steps by {trace.info.clock_step_s:g} s: gaps below that are taken as Poisson."
        )
    lost = trace.frame.select(pl.col("session_id", "prefix_blocks").is_not_null().any()).collect(engine="streaming")
    if any(lost.row(0)):
        notes.append("Sessions and shared prefixes of the source are not continued.")
    return notes
