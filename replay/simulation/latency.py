"""How long a step takes: tables of integer picoseconds that every latency model is lowered to, and their sums.

    step = dense[tokens] + head[sequences sampled] + decode attention(n, kv) + Σ prefill attention(chunk, prior)
           + what prefill and decode cost more together + what unequal contexts cost more

Decode attention is piecewise linear in the number of KV tokens read, for each number of decoding sequences, so the
steps between two decisions are summed in closed form, exactly. Where contexts are unequal, a share of the way from a
batch of mean contexts to one of longest contexts is taken; the share is a whole number of 1/SHARES and the tables are
multiples of SHARES then, so that stays exact too.
"""

from typing import NamedTuple

import numpy as np

from replay.simulation.compiled import called, compiled, entry
from replay.simulation.state import F64, I64, NEVER

SHARES = 256


class Latency(NamedTuple):
    """A lowered latency model. All values are picoseconds but the edges, which are tokens, and `skew`."""

    dense: I64  # [tokens in the batch]
    head: I64  # [sequences sampled]
    kv_edges: I64  # [decoding sequences, segment]: first KV total of a segment
    kv_base: I64  # [decoding sequences, segment]
    kv_slope: I64  # [decoding sequences, segment], a KV token
    chunk_edges: F64  # grid over the tokens of a prefill chunk
    prior_edges: F64  # grid over the tokens that are in the KV cache before it
    prefill: F64  # [chunk, prior], bilinear in between
    mixed_axes: F64  # [axis, knot]: octaves of chunk, prior, sequences, context; one row long where nothing is mixed
    mixed: F64  # [chunk, prior, sequences, context]: mixed batch less its prefill less its decode; or empty
    skew: I64  # [chunk, sequences, share, longest, prior]: SHARES-ths of the way to the longest context; or empty
    skew_bounds: F64  # [axis of `skew`, bin]: largest value in a bin, infinite after the last
    shared: I64  # [tokens of all instances in lockstep]: what they compute and exchange together; or empty


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
def _bin(latency, axis, value):
    b = 0
    while value > latency.skew_bounds[axis, b]:
        b += 1
    return b


@called
def skew_share(latency, chunk, prior, sequences, kv, shortest, longest):
    """SHARES-ths of the way from a batch of mean contexts to one of longest contexts that this batch takes."""
    if latency.skew.size == 0 or longest <= shortest:
        return np.int64(0)
    large = (kv / sequences - shortest) / (longest - shortest)
    return latency.skew[
        _bin(latency, 0, chunk),
        _bin(latency, 1, sequences),
        _bin(latency, 2, large),
        _bin(latency, 3, longest),
        _bin(latency, 4, prior),
    ]


@compiled
def _until_edge(latency, sequences, segment, kv):
    """Steps from one that reads `kv` tokens for which `segment` holds."""
    if segment + 1 == latency.kv_edges.shape[1]:
        return np.int64(NEVER)
    return (latency.kv_edges[sequences, segment + 1] - kv + sequences - 1) // sequences


@compiled
def decode_line(latency, sequences, kv, shortest, longest):
    """Decode-only steps from one that reads `kv` tokens on: (its time, the rise a step, steps for which this holds)."""
    j = _segment(latency, sequences, kv)
    slope = latency.kv_slope[sequences, j]
    first = latency.dense[sequences] + latency.head[sequences] + latency.kv_base[sequences, j] + slope * kv
    alike = _until_edge(latency, sequences, j, kv)
    share = skew_share(latency, 0, 0, sequences, kv, shortest, longest)
    if share == 0:
        return first, slope * sequences, alike
    most = longest * sequences
    k = _segment(latency, sequences, most)
    steeper = latency.kv_slope[sequences, k]
    more = latency.kv_base[sequences, k] + steeper * most - latency.kv_base[sequences, j] - slope * kv
    alike = min(alike, _until_edge(latency, sequences, k, most))
    bound = latency.skew_bounds[3, _bin(latency, 3, longest)]
    if bound < NEVER // 2:
        alike = min(alike, np.int64(bound) - longest + 1)
    first += share * more // SHARES
    return first, (slope * SHARES + share * (steeper - slope)) * sequences // SHARES, max(alike, np.int64(1))


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
    """The cell of a table that holds `value`, or the nearest. NumPy's search takes a second to compile."""
    low, high = 0, edges.size - 2
    while low < high:
        middle = (low + high + 1) // 2
        if edges[middle] <= value:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def prefill_attention(latency, chunk, prior):
    """Time of the attention of one prefill chunk over itself and the `prior` tokens before it."""
    i, j = _cell(latency.chunk_edges, chunk), _cell(latency.prior_edges, prior)
    x = (chunk - latency.chunk_edges[i]) / (latency.chunk_edges[i + 1] - latency.chunk_edges[i])
    y = (prior - latency.prior_edges[j]) / (latency.prior_edges[j + 1] - latency.prior_edges[j])
    low = latency.prefill[i, j] + y * (latency.prefill[i, j + 1] - latency.prefill[i, j])
    high = latency.prefill[i + 1, j] + y * (latency.prefill[i + 1, j + 1] - latency.prefill[i + 1, j])
    return np.int64(np.rint(low + x * (high - low)))


@called
def _together(latency, chunk, prior, sequences, context):
    """What a mixed batch takes beyond its prefill and its decode alone: linear in each of the four."""
    axes, table = latency.mixed_axes, latency.mixed
    a, b = _cell(axes[0, : table.shape[0]], chunk), _cell(axes[1, : table.shape[1]], prior)
    c, d = _cell(axes[2, : table.shape[2]], sequences), _cell(axes[3, : table.shape[3]], context)
    w = (chunk - axes[0, a]) / (axes[0, a + 1] - axes[0, a])
    x = (prior - axes[1, b]) / (axes[1, b + 1] - axes[1, b])
    y = (sequences - axes[2, c]) / (axes[2, c + 1] - axes[2, c])
    z = (context - axes[3, d]) / (axes[3, d + 1] - axes[3, d])
    time = 0.0
    for corner in range(16):
        p, q, r, s = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1, corner >> 3
        weight = (w if p == 1 else 1 - w) * (x if q == 1 else 1 - x) * (y if r == 1 else 1 - y)
        time += weight * (z if s == 1 else 1 - z) * table[a + p, b + q, c + r, d + s]
    return time


@called
def mixed_attention(latency, chunks, priors, sequences, kv, shortest, longest):
    """Time of a mixed batch's attention beyond Σ prefill attention: `chunks` tokens, Σ chunk·prior in `priors`."""
    time = decode_attention(latency, sequences, kv)
    if sequences == 0 or chunks == 0:
        return time
    prior, mean = priors / chunks, kv / sequences
    share = skew_share(latency, chunks, prior, sequences, kv, shortest, longest)
    more = 0.0
    if latency.mixed.size > 0:
        more = _together(latency, chunks, prior, sequences, mean)
    if share != 0:
        high = decode_attention(latency, sequences, longest * sequences) - time
        extra = 0.0
        if latency.mixed.size > 0:
            extra = _together(latency, chunks, prior, sequences, np.float64(longest)) - more
        more += share * (high + extra) / SHARES
    return time + np.int64(np.rint(more))


@compiled
def alone(latency, prompt, output, budget):
    """Time of one request alone on an idle engine without a cache: its prefill in chunks, then its decode steps."""
    time = np.int64(0)
    done = 0
    while done < prompt:
        chunk = min(budget, prompt - done)
        last = 1 if done + chunk == prompt else 0
        time += latency.dense[chunk] + latency.head[last] + prefill_attention(latency, chunk, done)
        time += shared_time(latency, chunk)
        done += chunk
    kv = prompt + 1
    left = output - 1
    while left > 0:
        first, rise, alike = decode_line(latency, 1, kv, kv, kv)
        steps = min(left, alike)
        time += sum_of(first + shared_time(latency, 1), rise, steps)
        kv += steps
        left -= steps
    return time


@compiled
def shared_time(latency, tokens):
    """What instances in lockstep compute and exchange together for `tokens` tokens of them all."""
    return latency.shared[min(tokens, latency.shared.size - 1)] if latency.shared.size > 0 else np.int64(0)


@entry
def alone_all(latency, prompt, output, budget, out):
    """`alone` for every request, into `out`."""
    for r in range(prompt.size):
        out[r] = alone(latency, prompt[r], output[r], budget)
