"""Attention over KV blocks, for one packed batch: what transformers' models call in the place of their own.

Chunks of prompts attend one by one; what decodes attends together, as many blocks read as the longest of a group has.
That is a gather and PyTorch's own attention, so its cost grows with the padded context: not what a paged kernel takes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from replay.torch_engine.kv import KV
from toolkit.errors import SettingFailure

NAME = "trace_paged"


@dataclass(frozen=True)
class Chunk:
    """Rows `begin` to `end` of the batch continue one request; `blocks` (page, place) hold all of it so far."""

    begin: int
    end: int
    prior: int  # tokens before them
    blocks: tuple[Any, Any]


@dataclass(frozen=True)
class Group:
    """Requests that decode: row [n], blocks [n, b], and which of their b·tokens positions there are, [n, 1, 1, b·t]."""

    rows: Any
    blocks: tuple[Any, Any]
    known: Any


@dataclass(frozen=True)
class Batch:
    """Where each token's KV goes (page, place, position), and who attends to what."""

    kv: KV
    slots: tuple[Any, Any, Any]
    chunks: list[Chunk]
    groups: list[Group]


def paged_attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, *, batch: Batch, scaling: float, **others: Any
) -> tuple[Any, None]:
    """[1, heads, tokens, dim] each, as [1, tokens, heads, dim]; the keys and values are kept."""
    if others.get("sliding_window") or others.get("softcap") or others.get("s_aux") is not None:
        raise SettingFailure("attends to part of its context, or with sinks", where="the model", hint="choose another")
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    keys, values = batch.kv.layer(module.layer_idx)
    keys[batch.slots], values[batch.slots] = key, value
    out = torch.empty_like(query)
    for c in batch.chunks:
        new = slice(c.begin, c.end)
        k, v = (_context(keys, c), _context(values, c)) if c.prior else (key[new], value[new])
        out[new] = _chunk(query[new], k, v, scaling)
    for g in batch.groups:
        out[g.rows] = _decode(query[g.rows], keys[g.blocks], values[g.blocks], g.known, scaling)
    return out[None], None


def _context(cache: Any, c: Chunk) -> Any:
    """[tokens, heads, dim] of one request, the chunk's own included."""
    return cache[c.blocks].flatten(0, 1)[: c.prior + c.end - c.begin]


def _chunk(query: Any, keys: Any, values: Any, scaling: float) -> Any:
    """Each of the last tokens attends to all before it and itself."""
    new, seen, repeat = len(query), len(keys), query.shape[1] // keys.shape[1]
    mask = None
    if new < seen:
        mask = torch.ones(new, seen, dtype=torch.bool, device=query.device).tril(seen - new)
    q, k, v = (x.transpose(0, 1)[None] for x in (query, keys, values))
    k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
    made = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling)
    return made[0].transpose(0, 1)


def _decode(query: Any, keys: Any, values: Any, known: Any, scaling: float) -> Any:
    """[n, heads, dim]: one token each, the query heads of a KV head taken as so many positions."""
    n, heads, dim = query.shape
    keys, values = (x.flatten(1, 2).transpose(1, 2) for x in (keys, values))  # [n, kv heads, positions, dim]
    grouped = query.view(n, keys.shape[1], -1, dim)
    return scaled_dot_product_attention(grouped, keys, values, attn_mask=known, scale=scaling).reshape(n, heads, dim)
