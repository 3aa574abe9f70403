"""Qwen-Bailian usage traces: production chat with turns and 16-token prefix blocks."""

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from toolkit.protocols import LoadOptions, Scan
from workloads.fields import BLOCKS, TEXT, TIME, TOKENS, WHOLE, optional
from workloads.outline import outline
from workloads.records import check, line_frame

FIELDS = {
    "chat_id": WHOLE,
    "parent_chat_id": optional(WHOLE),
    "timestamp": TIME,
    "input_length": TOKENS,
    "output_length": TOKENS,
    "type": optional(TEXT),
    "turn": optional(TOKENS),
    "hash_ids": optional(BLOCKS),
}
NO_PARENT = -1
BLOCK_TOKENS = 16


class QwenBailian:
    """Qwen-Bailian JSONL: chat_id and parent_chat_id, timestamp in s, lengths, type, turn, hash_ids of 16 tokens."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if {"chat_id", "timestamp", "input_length", "output_length"} <= outline(head) else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        return Scan(
            frame=_requests(line_frame(paths, FIELDS)),
            time_unit="s",
            time_unit_reason="the format's timestamps are seconds",
            block_tokens=BLOCK_TOKENS,
            block_scope="global",
        )


def _requests(frame: pl.LazyFrame) -> pl.LazyFrame:
    chats = frame.select("chat_id", "parent_chat_id").drop_nulls("chat_id")
    found = cache(lambda: _roots(chats.collect(engine="streaming")))  # once, however often the trace is read
    roots = pl.defer(found, schema={"chat_id": pl.Int64, "root": pl.Int64})
    parent = pl.col("parent_chat_id").replace(NO_PARENT, None)
    return frame.join(roots, on="chat_id", how="left", maintain_order="left").select(
        arrival="timestamp",
        kind="type",
        session_id=pl.col("root").cast(pl.String),
        turn="turn",
        prompt_tokens="input_length",
        output_tokens="output_length",
        prefix_blocks="hash_ids",
        source_id=pl.col("chat_id").cast(pl.String),
        parent_source_id=parent.cast(pl.String),
        drop_reason="drop_reason",
        row_hash=pl.struct("chat_id", "timestamp", "input_length", "output_length").hash(),  # a chat has one text
    )


def _roots(chats: pl.DataFrame) -> pl.DataFrame:
    """The first chat of each chat's conversation, by following parents in doubling steps.

    A parent that is not in the trace ends the chain, so that chats with the same unseen parent stay one session.
    """
    known = chats.unique("chat_id", keep="first", maintain_order=True)
    ids = known["chat_id"].to_numpy()
    parents = known["parent_chat_id"].fill_null(NO_PARENT).to_numpy()
    root = np.where(parents == NO_PARENT, ids, parents)
    order = np.argsort(ids)
    for _ in range(len(ids).bit_length()):
        place = order[np.minimum(np.searchsorted(ids, root, sorter=order), len(ids) - 1)]
        further = np.where(ids[place] == root, root[place], root)
        if np.array_equal(further, root):
            break
        root = further
    return pl.DataFrame({"chat_id": ids, "root": root})
