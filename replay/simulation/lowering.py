"""Lower a latency model to the core's tables of integer picoseconds."""

import numpy as np

from replay.simulation.latency import Latency
from replay.simulation.state import F64, I64, PS
from toolkit.protocols import LatencyModel


def lower(model: LatencyModel, max_tokens: int, max_seqs: int, max_context: int) -> Latency:
    """Evaluate `model` on every batch size, and on geometric grids of contexts up to `max_context` tokens."""
    contexts = _geometric(max_context)
    chunks, priors = _geometric(max_tokens), np.concatenate([[0.0], _geometric(max_context)])
    edges, base, slope = _decode_tables(model, max_seqs, contexts)
    grid = np.meshgrid(chunks, priors, indexing="ij")
    return Latency(
        dense=_picoseconds(model.dense_s(np.arange(max_tokens + max_seqs + 1, dtype=np.float64))),
        head=_picoseconds(model.head_s(np.arange(max_seqs + 1, dtype=np.float64))),
        kv_edges=edges,
        kv_base=base,
        kv_slope=slope,
        chunk_edges=chunks,
        prior_edges=priors,
        prefill=model.prefill_attention_s(grid[0], grid[1]) * PS,
    )


def _geometric(last: int) -> F64:
    """1, 2, 3, 4, 6, 8, 12 … up to at least `last`: two points an octave."""
    octaves = 2.0 ** np.arange(int(np.ceil(np.log2(max(last, 2)))) + 1)
    return np.unique(np.concatenate([octaves, 1.5 * octaves[1:-1]]))


def _decode_tables(model: LatencyModel, max_seqs: int, contexts: F64) -> tuple[I64, I64, I64]:
    """Piecewise-linear tables over the KV total, a row a number of sequences; contexts are per sequence."""
    edges = np.zeros((max_seqs + 1, contexts.size), np.int64)
    base, slope = np.zeros_like(edges), np.zeros_like(edges)
    for sequences in range(1, max_seqs + 1):
        kv = np.rint(contexts * sequences).astype(np.int64)
        time = _picoseconds(model.decode_attention_s(sequences, kv.astype(np.float64)))
        rise = (np.diff(time) / np.diff(kv)).round().astype(np.int64)
        slope[sequences] = np.append(rise, rise[-1])
        base[sequences] = time - slope[sequences] * kv
        edges[sequences] = kv
    return edges, base, slope


def _picoseconds(seconds: F64) -> I64:
    return np.rint(np.asarray(seconds) * PS).astype(np.int64)
