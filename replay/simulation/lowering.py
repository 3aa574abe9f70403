"""Lower a latency model to the core's tables of integer picoseconds."""

import numpy as np

from replay.simulation.horizon import LONGEST_STEP_S
from replay.simulation.latency import SHARES, Latency
from replay.simulation.state import F64, I64, PS
from toolkit.errors import SettingFailure
from toolkit.protocols import LatencyModel

Tables = tuple[I64, I64, I64]


def lower(model: LatencyModel, max_tokens: int, max_seqs: int, max_context: int, instances: int = 1) -> Latency:
    """Evaluate `model` on every batch size, and on geometric grids of contexts up to `max_context` tokens."""
    contexts = _geometric(max_context)
    chunks, priors = _geometric(max_tokens), np.concatenate([[0.0], _geometric(max_context)])
    skew, bounds = _skew(model)
    edges, base, slope = _decode_tables(model, max_seqs, contexts, SHARES if skew.size else 1)
    grid = np.meshgrid(chunks, priors, indexing="ij")
    axes, mixed = _mixed(model, max_tokens, max_seqs, max_context)
    return Latency(
        dense=_picoseconds(model.dense_s(np.arange(max_tokens + max_seqs + 1, dtype=np.float64))),
        head=_picoseconds(model.head_s(np.arange(max_seqs + 1, dtype=np.float64))),
        kv_edges=edges,
        kv_base=base,
        kv_slope=slope,
        chunk_edges=chunks,
        prior_edges=priors,
        prefill=_checked(model.prefill_attention_s(grid[0], grid[1])) * PS,
        mixed_axes=axes,
        mixed=mixed,
        skew=skew,
        skew_bounds=bounds,
        shared=_shared(model, max_tokens * instances),
    )


def _geometric(last: int) -> F64:
    """1, 2, 3, 4, 6, 8, 12 … up to at least `last`: two points an octave."""
    octaves = _octaves(last)
    return np.unique(np.concatenate([octaves, 1.5 * octaves[1:-1]]))


def _octaves(last: int) -> F64:
    exponents = np.arange(int(np.ceil(np.log2(max(last, 2)))) + 1)
    return np.exp2(exponents.astype(np.float64))


def _decode_tables(model: LatencyModel, max_seqs: int, contexts: F64, unit: int) -> Tables:
    """Piecewise-linear tables over the KV total, a row a number of sequences; contexts are per sequence.

    All values are multiples of `unit`.
    """
    sequences = np.arange(max_seqs + 1)
    edges: I64 = np.rint(contexts * sequences[:, None]).astype(np.int64)
    time = np.zeros_like(edges)
    for n, kv in zip(sequences[1:], edges[1:].astype(np.float64), strict=True):
        time[n] = _picoseconds(model.decode_attention_s(int(n), kv) / unit) * unit
    slope = np.zeros_like(edges)
    slope[1:, :-1] = (np.diff(time[1:]) / np.diff(edges[1:]) / unit).round().astype(np.int64) * unit
    slope[1:, -1] = slope[1:, -2]
    return edges, time - slope * edges, slope


def _mixed(model: LatencyModel, max_tokens: int, max_seqs: int, max_context: int) -> tuple[F64, F64]:
    """(Knots of the four axes, what a mixed batch takes beyond its parts); empty where the model does not say."""
    mixed = getattr(model, "mixed_attention_s", None)
    if mixed is None:
        return np.zeros((4, 1)), np.zeros((0, 0, 0, 0))
    start = np.zeros(1)
    contexts = _geometric(max_context)
    knots = [_geometric(max_tokens), np.append(start, contexts), _octaves(max_seqs), contexts]
    chunk, prior, sequences, context = np.meshgrid(*knots, indexing="ij")
    decode = np.stack([model.decode_attention_s(int(n), knots[3] * n) for n in knots[2]])
    extra = mixed(chunk, prior, sequences, context) - model.prefill_attention_s(chunk, prior) - decode
    axes = np.zeros((4, max(k.size for k in knots)))
    for axis, knot in zip(axes, knots, strict=True):
        axis[: knot.size] = knot
    return axes, extra * PS


def _skew(model: LatencyModel) -> tuple[I64, F64]:
    """(Shares of the way to the longest context, bounds of their bins); empty where the model does not say."""
    skew = getattr(model, "skew", None)
    if skew is None:
        return np.zeros((0, 0, 0, 0, 0), np.int64), np.full((5, 1), np.inf)
    bounds = np.full((5, max(b.size for b in skew.bounds) + 1), np.inf)
    for row, bound in zip(bounds, skew.bounds, strict=True):
        row[: bound.size] = bound
    return np.rint(skew.share * SHARES).astype(np.int64), bounds


def _shared(model: LatencyModel, tokens: int) -> I64:
    shared = getattr(model, "shared_s", None)
    if shared is None:
        return np.zeros(0, np.int64)
    return _picoseconds(shared(np.arange(tokens + 1, dtype=np.float64)))


def _picoseconds(seconds: F64) -> I64:
    return np.rint(_checked(np.asarray(seconds)) * PS).astype(np.int64)


def _checked(seconds: F64) -> F64:
    """Times that can be counted; SettingFailure where one is none, or longer than any step is."""
    if not (np.abs(seconds) <= LONGEST_STEP_S).all():
        raise SettingFailure(
            f"gives parts of steps up to {np.max(np.abs(seconds)):.3g} s; {LONGEST_STEP_S:,.0f} s is the most",
            where="latency model",
            hint="check its unit, which is seconds, or lower --max-model-len",
        )
    return seconds
