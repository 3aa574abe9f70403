"""When each model is more active than its own background: requests in windows, and which windows stand out.

The background is the model's own, so that whatever changes slowly for everybody (day and night, busy and quiet days)
changes the background and not the activity. It is the larger of the mean before and the mean after a window, so that a
step of the load, say at midnight, is no burst; windows that stand out are clipped before the mean is taken.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.windows import LENGTHS_S

Floats = NDArray[np.float32]  # names × windows
Active = NDArray[np.bool_]  # names × windows

ABOVE = 0.5  # a burst is at least so much above the background: a tenth more is no burst, however sure
DEVIATIONS = 2.0  # and so many standard deviations of Poisson counts
CLIP = 3.0  # the background's mean takes no window for higher than so many deviations
MOST_WINDOWS = 16_384
FINEST_S = 1.0
COARSEST_S = 600.0  # twelve of them are LOAD_S
COARSER = 3  # a window length over the one before
LOAD_S = 7200.0  # what is shared and changes more slowly than this is load, not bursts
REACH_S = 3600.0  # a window's background is what came so long before and after it
LEAST_REACH = 6  # windows
DENSE = 4.0
SEVERAL = 8  # names, from which what all do is told from what a group does
LEAST_BLOCKS, LEAST_IN_BLOCK, MOST_IN_BLOCK = 8, 12, 64


@dataclass(frozen=True)
class Scale:
    """Activity in windows of one length; a block is a stretch of windows within which load counts as steady."""

    window_s: float
    in_block: int  # windows in a block; those after the last whole block are left out
    active: Active
    noise: NDArray[np.float64]  # how many windows of each name would be active by Poisson counts alone

    @property
    def blocks(self) -> int:
        return int(self.active.shape[1] // self.in_block)


def scales(counts: Floats, finest_s: float, *, shared: bool = False) -> list[Scale]:
    """Activity at every window length that the trace allows, from `counts` at the finest; none if it is too short.

    With `shared`, what most names do at once belongs to the background however fast it changes.
    """
    found = []
    window_s = finest_s
    while window_s <= COARSEST_S and counts.shape[1] >= LEAST_BLOCKS * LEAST_IN_BLOCK:
        in_block = block_length(counts.shape[1], window_s)
        mean = background(counts, min(in_block, max(LEAST_REACH, round(REACH_S / window_s))))
        level = mean * common(counts, mean, in_block // 8 if not shared else 0)
        kept = counts.shape[1] // in_block * in_block
        likely = usual(counts, min(in_block, max(LEAST_REACH, round(REACH_S / window_s))))
        active, noise = above(counts, level)[:, :kept], chance(likely, level)[:, :kept].sum(axis=1)
        found.append(Scale(window_s, in_block, active, noise))
        whole = counts.shape[1] // COARSER * COARSER
        counts = counts[:, :whole].reshape(len(counts), -1, COARSER).sum(axis=2)
        window_s *= COARSER
    return found


def block_length(windows: int, window_s: float) -> int:
    """Windows in a block: LOAD_S at most where that is enough of them, and so that few are left over."""
    most = int(np.clip(LOAD_S / window_s, LEAST_IN_BLOCK, min(MOST_IN_BLOCK, windows // LEAST_BLOCKS)))
    return windows // -(-windows // most)


def common(counts: Floats, mean: Floats, reach: int) -> Floats:
    """How far all are above their background at once, over `reach` windows either side: at least 1, a window.

    The median over names, so that a group, or one large name, is not taken for everybody; over those names only that
    have DENSE requests or more in such a time, and 1 where these are fewer than SEVERAL.
    """
    dense = mean.mean(axis=1) * (2 * reach + 1) >= DENSE
    if dense.sum() < SEVERAL:
        return np.ones(counts.shape[1], dtype=np.float32)
    ratio = around(counts[dense], reach) / np.maximum(around(mean[dense], reach), 1e-3)
    return np.maximum(np.median(ratio, axis=0), 1)


def around(rows: Floats, reach: int) -> Floats:
    """The mean of each window and `reach` windows either side."""
    total = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1, dtype=np.float64)], axis=1)
    at = np.arange(rows.shape[1])
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, rows.shape[1])
    mean: Floats = ((total[:, high] - total[:, low]) / (high - low)).astype(np.float32)
    return mean


def finest_window_s(span_s: float, step_s: float | None) -> float:
    """The shortest usual length that leaves at most MOST_WINDOWS and spans two steps of the clock."""
    shortest = max(span_s / MOST_WINDOWS, FINEST_S, 2 * (step_s or 0))
    return next((length for length in LENGTHS_S if length >= shortest), LENGTHS_S[-1])


def background(counts: Floats, reach: int) -> Floats:
    """A name's own mean count over `reach` windows before or after each window, whichever is larger."""
    clipped = _clipped(counts, reach)
    return np.maximum(before(clipped, reach), after(clipped, reach))


def usual(counts: Floats, reach: int) -> Floats:
    """The same over both sides together: the mean of the counts, bursts left out, where a background is cautious."""
    clipped = _clipped(counts, reach)
    mean: Floats = (before(clipped, reach) + after(clipped, reach)) / np.float32(2)
    return mean


def _clipped(counts: Floats, reach: int) -> Floats:
    clipped = counts
    for _ in range(2):
        near = (before(clipped, reach) + after(clipped, reach)) / 2
        clipped = np.minimum(counts, near + CLIP * np.sqrt(near) + 1)
    return clipped


def above(counts: Floats, mean: Floats) -> Active:
    """The windows that stand out of a background of so many requests a window."""
    active: Active = counts > limit(mean)
    return active


def limit(mean: Floats) -> Floats:
    """The count above which a window stands out."""
    most: Floats = mean + np.maximum(ABOVE * mean, DEVIATIONS * np.sqrt(mean))
    return most


def chance(mean: Floats, level: Floats) -> Floats:
    """The probability that a Poisson count of this mean stands out of the background `level`."""
    from scipy.special import gammainc

    found: Floats = gammainc(np.floor(limit(level)) + 1, mean).astype(np.float32)
    return found


def before(counts: Floats, reach: int) -> Floats:
    """The mean of the `reach` windows before each; at the start, of the first `reach`."""
    padded = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1, dtype=np.float64)], axis=1)
    until = np.maximum(np.arange(counts.shape[1]), reach)
    mean: Floats = ((padded[:, until] - padded[:, until - reach]) / reach).astype(np.float32)
    return mean


def after(counts: Floats, reach: int) -> Floats:
    """The mean of the `reach` windows after each; at the end, of the last `reach`."""
    return before(counts[:, ::-1], reach)[:, ::-1]
