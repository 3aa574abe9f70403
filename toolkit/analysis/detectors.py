"""Online detectors on log tokens: when would an alarm have been raised by something that sees one request at a time?

The stream is log(1 + tokens) in requests, or in means of equally many where there are more than MOST_STEPS. Each
detector's threshold is what FALSE_ALARM of drift-free streams reach by their end; those are the trace's own residuals
about its segments, their blocks in another order. After an alarm a detector starts afresh.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_STEPS = 5_000
FALSE_ALARM = 0.05  # of drift-free traces of this length raise any alarm
NULLS = 40
REFERENCE = 0.1  # of the stream is what CUSUM compares with
SLACK = 0.1  # σ: CUSUM and Page–Hinkley ignore shifts of less
LEAST_STEPS = 30
MOST_ALARMS = 20

ALARMS = pl.Schema(
    {
        "column": pl.String(),
        "detector": pl.String(),
        "time_s": pl.Float64(),
        "request_id": pl.Int64(),
        "direction": pl.String(),
        "delay_requests": pl.Int64(),
        "delay_s": pl.Float64(),
    }
)


def page_hinkley(stream: Floats) -> Floats:
    """How far the cumulated deviation from the running mean is from its extreme, float[..., steps], signed."""
    steps = np.arange(1, stream.shape[-1] + 1)
    deviation = stream - np.cumsum(stream, axis=-1) / steps
    return _one_sided(deviation)


def cusum(stream: Floats) -> Floats:
    """Two-sided CUSUM about the mean of the first REFERENCE of the stream, signed."""
    known = max(LEAST_STEPS, int(REFERENCE * stream.shape[-1]))
    centred = stream - stream[..., :known].mean(axis=-1, keepdims=True)
    return _one_sided(np.where(np.arange(stream.shape[-1]) < known, 0.0, centred))


def adwin(stream: Floats) -> Floats:
    """ADWIN's comparison: the last w steps against all before, over windows w that double, in standard errors."""
    steps = stream.shape[-1]
    total = np.concatenate([np.zeros((*stream.shape[:-1], 1)), np.cumsum(stream, axis=-1)], axis=-1)
    best = np.zeros(stream.shape)
    width = LEAST_STEPS
    while width <= steps - LEAST_STEPS:
        before = np.arange(LEAST_STEPS, steps - width + 1)
        middle = total[..., LEAST_STEPS : steps - width + 1]
        gap = (total[..., LEAST_STEPS + width :] - middle) / width - middle / before
        gap /= np.sqrt(1 / width + 1 / before)
        here = best[..., LEAST_STEPS + width - 1 :]
        np.copyto(here, gap, where=np.abs(gap) > np.abs(here))
        width *= 2
    return best


DETECTORS: dict[str, Callable[[Floats], Floats]] = {"ADWIN": adwin, "CUSUM": cusum, "Page–Hinkley": page_hinkley}


def alarms(
    tokens: NDArray[np.integer], points: list[int], block: int, rng: np.random.Generator
) -> list[tuple[str, int, str, int | None]]:
    """Detector, request, direction, and delay in requests since the last change point (null: there was none).

    `points` and `block` are in requests; with nothing before it an alarm is false, or earlier than what was found.
    """
    every = max(1, -(-len(tokens) // MOST_STEPS))
    logs = np.log1p(tokens[: len(tokens) // every * every].astype(np.float32)).reshape(-1, every).mean(axis=1)
    if len(logs) < 4 * LEAST_STEPS:
        return []
    residual = _residual(logs, [point // every for point in points])
    scale = residual.std() or 1.0
    null = _shuffled(residual / scale, max(1, block // every), rng)
    found = []
    for name, detector in DETECTORS.items():
        threshold = np.quantile(np.abs(detector(null)).max(axis=1), 1 - FALSE_ALARM)
        for step, up in _alarms(logs / scale, detector, float(threshold)):
            request = min((step + 1) * every - 1, len(tokens) - 1)
            before = [point for point in points if point <= request]
            found.append((name, request, "up" if up else "down", request - before[-1] if before else None))
    return found


def _alarms(stream: Floats, detector: Callable[[Floats], Floats], threshold: float) -> list[tuple[int, bool]]:
    begin, found = 0, list[tuple[int, bool]]()
    while len(stream) - begin >= 2 * LEAST_STEPS and len(found) < MOST_ALARMS:
        scanned = detector(stream[begin:])
        over = np.abs(scanned) > threshold
        if not over.any():
            break
        first = int(over.argmax())
        found.append((begin + first, bool(scanned[first] > 0)))
        begin += first + 1
    return found


def _one_sided(deviation: Floats) -> Floats:
    """The larger of the rise since the lowest and the fall since the highest point of the sum, less the slack."""
    slack = SLACK * np.arange(1, deviation.shape[-1] + 1)
    path = np.cumsum(deviation, axis=-1)
    rise = path - slack - np.minimum.accumulate(np.minimum(path - slack, 0), axis=-1)
    fall = np.maximum.accumulate(np.maximum(path + slack, 0), axis=-1) - path - slack
    return np.where(rise >= fall, rise, -fall)


def _residual(logs: Floats, points: list[int]) -> Floats:
    bounds = sorted({0, *points, len(logs)})
    parts = [logs[a:b] - logs[a:b].mean() for a, b in pairwise(bounds)]
    return np.concatenate(parts)


def _shuffled(residual: Floats, block: int, rng: np.random.Generator) -> Floats:
    """NULLS streams of the residuals, blocks in random order."""
    blocks = len(residual) // block
    order = np.argsort(rng.random((NULLS, blocks)), axis=1)
    places = (order[:, :, None] * block + np.arange(block)).reshape(NULLS, -1)
    drawn: Floats = residual[places]
    return drawn
