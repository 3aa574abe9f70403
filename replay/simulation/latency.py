"""How long a step takes: tables of integer picoseconds that every latency model is lowered to, and their sums.

    step = dense[tokens] + head[sequences sampled] + decode attention(n, kv) + Σ prefill attention(chunk, prior)

Decode attention is piecewise linear in the number of KV tokens read, for each number of decoding sequences, so the
steps between two decisions are summed in closed form, exactly.
"""

from typing import NamedTuple

import numpy as np

from replay.simulation.compiled import compiled, entry
from replay.simulation.state import F64, I64, NEVER


class Latency(NamedTuple):
    """A lowered latency model. All values are picoseconds but the edges, which are tokens."""

    dense: I64  # [tokens in the batch]
    head: I64  # [sequences sampled]
    kv_edges: I64  # [decoding sequences, segment]: first KV total of a segment
    kv_base: I64  # [decoding sequences, segment]
    kv_slope: I64  # [decoding sequences, segment], a KV token
    chunk_edges: F64  # grid over the tokens of a prefill chunk
    prior_edges: F64  # grid over the tokens that are in the KV cache before it
    prefill: F64  # [chunk, prior], bilinear in between


@compiled
def _segment(latency, sequences, kv):
    low, high = 0, latency.kv_edges.shape[1]
    while high - low > 1:
        middle = (low + high) >> 1
        if latency.kv_edges[sequences, middle] <= kv:
            low = middle
        else:
            high = middle
    return low


@compiled
def decode_line(latency, sequences, kv):
    """Decode-only steps from one that reads `kv` tokens on: (its time, the rise a step, steps for which this holds)."""
    j = _segment(latency, sequences, kv)
    slope = latency.kv_slope[sequences, j]
    first = latency.dense[sequences] + latency.head[sequences] + latency.kv_base[sequences, j] + slope * kv
    if j + 1 == latency.kv_edges.shape[1]:
        return first, slope * sequences, np.int64(NEVER)
    return first, slope * sequences, (latency.kv_edges[sequences, j + 1] - kv + sequences - 1) // sequences


@compiled
def sum_of(first, rise, steps):
    """Time of `steps` steps, the first taking `first` and each next one `rise` more."""
    return steps * first + rise * (steps * (steps - 1) // 2)


@compiled
def decode_attention(latency, sequences, kv):
    """Time of the attention of `sequences` decoding requests that read `kv` tokens together."""
    if sequences == 0:
        return 0
    j = _segment(latency, sequences, kv)
    return latency.kv_base[sequences, j] + latency.kv_slope[sequences, j] * kv


@compiled
def _cell(edges, value):
    return min(max(np.searchsorted(edges, value, side="right") - 1, 0), edges.size - 2)


@compiled
def prefill_attention(latency, chunk, prior):
    """Time of the attention of one prefill chunk over itself and the `prior` tokens before it."""
    i, j = _cell(latency.chunk_edges, chunk), _cell(latency.prior_edges, prior)
    x = (chunk - latency.chunk_edges[i]) / (latency.chunk_edges[i + 1] - latency.chunk_edges[i])
    y = (prior - latency.prior_edges[j]) / (latency.prior_edges[j + 1] - latency.prior_edges[j])
    low = latency.prefill[i, j] + y * (latency.prefill[i, j + 1] - latency.prefill[i, j])
    high = latency.prefill[i + 1, j] + y * (latency.prefill[i + 1, j + 1] - latency.prefill[i + 1, j])
    return np.int64(np.rint(low + x * (high - low)))


@compiled
def alone(latency, prompt, output, budget):
    """Time of one request alone on an idle engine without a cache: its prefill in chunks, then its decode steps."""
    time = np.int64(0)
    done = 0
    while done < prompt:
        chunk = min(budget, prompt - done)
        last = 1 if done + chunk == prompt else 0
        time += latency.dense[chunk] + latency.head[last] + prefill_attention(latency, chunk, done)
        done += chunk
    kv = prompt + 1
    left = output - 1
    while left > 0:
        first, rise, alike = decode_line(latency, 1, kv)
        steps = min(left, alike)
        time += sum_of(first, rise, steps)
        kv += steps
        left -= steps
    return time


@entry
def alone_all(latency, prompt, output, budget, out):
    """`alone` for every request, into `out`."""
    for r in range(prompt.size):
        out[r] = alone(latency, prompt[r], output[r], budget)
