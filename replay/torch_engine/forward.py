"""One step of a model: tokens in, the next token of each request whose tokens are all in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from replay.planning.jobs import Part
from replay.torch_engine.attention import Batch, Chunk, Group
from replay.torch_engine.kv import KV
from replay.torch_engine.model import Model

I64 = NDArray[np.int64]
PADDED = 2.0  # contexts that decode together are at most this many times the shortest ones' length, and
SMALL = 8  # blocks: below that nothing is worth a group of its own


class Forward:
    """Runs a loaded model over its KV."""

    def __init__(self, model: Model, kv: KV):
        self.model, self.kv, self._at = model, kv, model.device.at

    def __call__(self, parts: Sequence[Part]) -> list[int | None]:
        """For each part the next token, by the highest logit; None where its request has more to compute."""
        ids = np.concatenate([job.tokens[job.computed : job.computed + count] for job, count in parts])
        positions = np.concatenate([np.arange(job.computed, job.computed + count) for job, count in parts])
        ends = np.cumsum([count for _, count in parts])
        whole = [n for n, (job, count) in enumerate(parts) if count == job.to_compute]
        with torch.inference_mode():
            logits = self.model.module(
                input_ids=self._tensor(ids)[None],
                position_ids=self._tensor(positions)[None],
                use_cache=False,
                logits_to_keep=self._tensor(ends[whole] - 1),
                batch=self._batch(parts, positions, ends),
            ).logits
            chosen = logits[0].argmax(-1).tolist() if whole else []
        tokens: list[int | None] = [None] * len(parts)
        for n, token in zip(whole, chosen, strict=True):
            tokens[n] = token
        self.model.device.wait()
        return tokens

    def _batch(self, parts: Sequence[Part], positions: I64, ends: I64) -> Batch:
        size = self.kv.block_tokens
        owner = np.repeat(np.arange(len(parts)), [count for _, count in parts])
        table = _table([job.blocks for job, _ in parts])
        page, place = self.kv.where(table[owner, positions // size])
        chunks, decoding = [], []
        for n, (job, count) in enumerate(parts):
            if count == 1 and job.computed:
                decoding.append(n)
            else:
                blocks = np.array(job.blocks[: self.kv.blocks_for(job.computed + count)], np.int64)
                chunks.append(Chunk(int(ends[n]) - count, int(ends[n]), job.computed, self._where(blocks)))
        groups = [self._group(parts, ends, table, some) for some in _alike(parts, decoding, size)]
        return Batch(self.kv, tuple(map(self._tensor, (page, place, positions % size))), chunks, groups)

    def _group(self, parts: Sequence[Part], ends: I64, table: I64, some: list[int]) -> Group:
        lengths = np.array([parts[n][0].computed + 1 for n in some])
        blocks = table[some, : self.kv.blocks_for(int(lengths.max()))]
        known = np.arange(blocks.shape[1] * self.kv.block_tokens) < lengths[:, None]
        return Group(self._tensor(ends[some] - 1), self._where(blocks), self._tensor(known[:, None, None, :]))

    def _where(self, blocks: I64) -> tuple[Any, Any]:
        page, place = self.kv.where(blocks)
        return self._tensor(page), self._tensor(place)

    def _tensor(self, values: NDArray[Any]) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._at)


def _table(blocks: list[list[int]]) -> I64:
    """Lists of blocks as one table; a row that is shorter goes on with its first block, which nobody looks at."""
    table = np.empty((len(blocks), max(map(len, blocks))), np.int64)
    for row, some in zip(table, blocks, strict=True):
        row[:] = some[0]
        row[: len(some)] = some
    return table


def _alike(parts: Sequence[Part], decoding: list[int], block_tokens: int) -> list[list[int]]:
    """What decodes, in groups of like contexts: within one all read as much as the longest."""
    ordered = sorted(decoding, key=lambda n: -parts[n][0].computed)
    groups: list[list[int]] = []
    longest = 0
    for n in ordered:
        length = parts[n][0].computed + 1
        if not groups or (longest > SMALL * block_tokens and length * PADDED < longest):
            groups.append([])
            longest = length
        groups[-1].append(n)
    return groups
