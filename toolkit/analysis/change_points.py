"""Where a distribution changes: kernel scan, block permutation, binary segmentation, then the request itself.

A segment is cut into at most 96 blocks of chunks. The statistic is the squared distance between the mean features
before and after a cut, or inside and outside an interval (a pulse), scaled by their sizes, at the best cut. Its null
is the same maximum after the blocks change places, stretched in every direction by how much longer sums vary
(drift_stretch), so that slowly wandering lengths are not taken for drift.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from toolkit.analysis.change_places import placed
from toolkit.analysis.drift_bins import Binned
from toolkit.analysis.drift_stretch import stretches

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]
BLOCKS = 96
LEAST_BLOCKS = 16
PERMUTATIONS = 299
DIRECTIONS = 16  # of the features, those in which blocks differ most
CUT_ALPHA, PULSE_ALPHA = 0.01, 0.01  # of the two scans; together they bound how often a drift-free trace drifts
MOST_POINTS = 48
CLEAR = 2.75  # times what independent blocks give: no wander that counts as noise
TRIMMED = 0.04  # of the blocks may border on a change
KEPT = {1: 0.87, 2: 0.79}  # of the mean of squared differences by lag, when the largest of Gaussian ones are left out
SCALES = (64, 48, 32)  # blocks at which resemblance is measured
LEAST_RESEMBLANCE = 0.5  # of so many blocks, times the root of their number: less is noise
MOST_RESEMBLANCE = 0.5  # of neighbouring blocks: what wanders more slowly, over 1/32 of a segment and longer, is drift


@dataclass(frozen=True)
class Segmentation:
    """`points` are the requests at which a new segment begins; `p_value` is twice the smaller of the two scans'."""

    points: list[int]
    p_value: float | None  # null: too few requests to tell
    stretch: float  # variance of long means over that of independent blocks


@dataclass(frozen=True)
class Found:
    """The best cuts of one segment, in chunks, and what they are worth."""

    cuts: tuple[int, ...]
    shown: bool
    p_value: float
    stretch: float


def segment(binned: Binned, rng: np.random.Generator, long_run: float = 0.0) -> Segmentation:
    """Cut as long as the parts differ; then place every cut between its neighbours and drop the small ones.

    `long_run` is the variance a request adds to a long sum, where sessions tell it; an independent request adds 1.
    """
    features = condensed(binned.features)
    long_run *= binned.requests / len(features)
    whole = split(features, rng, long_run)
    if whole is None:
        return Segmentation([], None, 1.0)
    cuts: list[int] = []
    waiting = [(0, len(features), whole)]
    while waiting and len(cuts) < MOST_POINTS:
        begin, end, found = waiting.pop(0)
        if not found.shown:
            continue
        inner = [begin + cut for cut in found.cuts]
        cuts += inner
        bounds = [begin, *inner, end]
        for low, high in pairwise(bounds):
            part = split(features[low:high], rng, long_run)
            if part is not None:
                waiting.append((low, high, part))
    return Segmentation(placed(binned, sorted(cuts)), whole.p_value, whole.stretch)


def split(features: Floats, rng: np.random.Generator, long_run: float = 0.0) -> Found | None:
    """The best cut, or pulse, of a segment and its p-value; null where it has fewer than LEAST_BLOCKS chunks."""
    blocks = min(BLOCKS, len(features))
    if blocks < LEAST_BLOCKS:
        return None
    edges = np.linspace(0, len(features), blocks + 1).round().astype(np.int64)
    sums = blocked(features, edges).astype(np.float32)
    shuffled = sums[np.argsort(rng.random((PERMUTATIONS, blocks)), axis=1)].cumsum(axis=1)
    factors = wandering(features, blocks, shuffled, long_run)
    shuffled *= np.sqrt(factors).astype(np.float32)
    mean_factor = float((sums**2).sum(axis=0) @ factors / max(float((sums**2).sum()), 1e-9))
    whole = sums.cumsum(axis=0)
    steps = cut_scan(whole)
    p_value = _p_value(steps.max(), cut_scan(shuffled).max(axis=-1))
    if p_value <= CUT_ALPHA:
        return Found((int(edges[steps.argmax() + 1]),), True, min(1.0, 2 * p_value), mean_factor)
    pulses = pulse_scan(whole)
    pulse_p = _p_value(pulses.max(), pulse_scan(shuffled).max(axis=(-2, -1)))
    first, last = np.unravel_index(pulses.argmax(), pulses.shape)
    cuts = (int(edges[first + 1]), int(edges[last + 1]))
    return Found(cuts, pulse_p <= PULSE_ALPHA, min(1.0, 2 * min(p_value, pulse_p)), mean_factor)


def wandering(features: Floats, blocks: int, shuffled: Singles, long_run: float) -> Floats:
    """By how much the null's variance is stretched in each direction; `shuffled` are the null's cumulated sums.

    `long_run` is what is known of the variance that a chunk adds to a long sum.
    """
    scaled = _scaled_blocks(features, blocks)
    own = (scaled**2).sum(axis=0) / (blocks - 1)
    if not own.sum() > 0:
        return np.ones(features.shape[1])
    noise = np.minimum(_noise(scaled) / np.maximum(own, 1e-12), 1)  # changes add to the blocks' variance
    drawn = cut_scan(shuffled * np.sqrt(noise).astype(np.float32)).max(axis=-1)
    level = float(np.quantile(drawn, 1 - CUT_ALPHA)) * blocks / len(features)
    factors: Floats = np.maximum(stretches(scaled, CLEAR * level), long_run / own.sum())
    return factors


def _noise(blocks: Floats) -> Floats:
    """The variance of each direction, from the smaller differences of neighbours."""
    squared = np.diff(blocks, axis=0) ** 2
    kept = np.argsort(squared.sum(axis=1))[: -max(2, int(np.ceil(TRIMMED * len(blocks))))]
    noise: Floats = squared[kept].mean(axis=0) / 2 / KEPT[1]
    return noise


def blocked(features: Floats, edges: Ints) -> Floats:
    """Sums of each block's features about the segment's mean."""
    sums: Floats = np.add.reduceat(features, edges[:-1], axis=0)
    sums -= features.mean(axis=0) * np.diff(edges)[:, None]
    return sums


def condensed(features: Floats) -> Floats:
    """The features in the DIRECTIONS in which chunks differ most, float64[chunks, directions]."""
    _, directions = np.linalg.eigh(features.T @ features)
    turned: Floats = features @ directions[:, -DIRECTIONS:]
    return turned


def cut_scan(sums: Singles) -> Singles:
    """What a cut after each block but the last is worth, float32[…, blocks − 1], from cumulated sums of blocks."""
    blocks = sums.shape[-2]
    before = np.arange(1, blocks)
    squared = (sums[..., :-1, :] ** 2).sum(axis=-1)
    scanned: Singles = squared * (blocks / (before * (blocks - before))).astype(np.float32)
    return scanned


def pulse_scan(sums: Singles) -> Singles:
    """What the blocks after i up to j are worth against the rest; 0 where j − i < 2 or an end is the segment's."""
    blocks = sums.shape[-2]
    place = np.arange(blocks)
    inside = place[None, :] - place[:, None]
    usable = (inside >= 2) & (place[None, :] < blocks - 1)
    weight = np.where(usable, blocks / (np.maximum(inside, 1) * (blocks - np.maximum(inside, 1))), 0)
    squared = (sums**2).sum(axis=-1)
    scanned: Singles = sums @ np.swapaxes(sums, -1, -2)
    scanned *= -2
    scanned += squared[..., None, :]
    scanned += squared[..., :, None]
    scanned *= weight.astype(np.float32)
    return scanned


def stretch(features: Floats, long_run: float = 0.0, blocks: int = BLOCKS, scales: tuple[int, ...] = SCALES) -> float:
    """How much larger the variance of long means is than if `blocks` blocks were independent; at least 1.

    `long_run` is what is known of the variance that a chunk adds to a long sum. The rest is from differences of
    neighbouring blocks, and of those one apart, at several block lengths. Blocks that wander like an AR(1) with
    correlation ρ have E d₂² ∕ E d₁² = 1 + ρ; a step or a ramp touches few differences, or each by little.
    """
    usable = [scale for scale in scales if scale <= len(features)]
    if not usable:
        return 1.0
    base = _scaled_blocks(features, min(blocks, len(features)))
    total = (base**2).sum() / (len(base) - 1)
    if total <= 0:
        return 1.0
    measured = (_long_run(_scaled_blocks(features, scale)) for scale in usable)
    return max(1.0, max(long_run, *measured) / float(total))


def _scaled_blocks(features: Floats, blocks: int) -> Floats:
    edges = np.linspace(0, len(features), blocks + 1).round().astype(np.int64)
    scaled: Floats = blocked(features, edges) / np.sqrt(np.diff(edges))[:, None]
    return scaled


def _long_run(blocks: Floats) -> float:
    """The variance that a sum of very many blocks would have, a block; resemblance below its error counts as none."""
    near, apart = _differences(blocks, 1), _differences(blocks, 2)
    resemblance = apart / near - 1 if near else 0.0
    if resemblance < LEAST_RESEMBLANCE / np.sqrt(len(blocks)):
        return near
    resemblance = min(resemblance, MOST_RESEMBLANCE)
    return near * (1 + resemblance) / (1 - resemblance) ** 2


def _differences(blocks: Floats, lag: int) -> float:
    """Half the mean squared difference, estimated without its largest: those across a change are not noise."""
    squared = np.sort(((blocks[lag:] - blocks[:-lag]) ** 2).sum(axis=1))
    left_out = lag * max(2, int(np.ceil(TRIMMED * len(blocks))))
    return float(squared[:-left_out].mean() / 2 / KEPT[lag])


def _p_value(observed: np.floating, null: NDArray[np.float32]) -> float:
    return float((1 + np.count_nonzero(null >= observed * (1 - 1e-6))) / (1 + len(null)))
