"""Shared prefixes: system prompts and popular documents before what a request adds, as blocks of text."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from workloads.generators.lengths import Lengths, lengths
from workloads.generators.names import pick

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Prefixes:
    """Every request starts with its model's and tenant's system prompt, then perhaps one of `documents`.

    The r-th document is chosen in proportion to r to the −`zipf`. Both are whole blocks; what a request or a session
    adds is its own. The same block id is the same text from the prompt's start.
    """

    block_tokens: int = 64
    system_tokens: int = 0
    documents: int = 0
    zipf: float = 1.0
    document_tokens: Lengths | int = 2_048

    def __post_init__(self) -> None:
        if self.block_tokens < 1 or self.system_tokens < 0 or self.documents < 0:
            raise ValueError("block_tokens must be 1 or more, system_tokens and documents 0 or more")
        if self.system_tokens % self.block_tokens:
            raise ValueError("system_tokens must be a multiple of block_tokens")
        lengths(self.document_tokens)

    def library(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Blocks of each document."""
        tokens = lengths(self.document_tokens)
        drawn = tokens.whole(tokens.at(rng.standard_normal(self.documents)))
        return np.ceil(drawn / self.block_tokens).astype(np.int64)

    def open(
        self, starts: pl.DataFrame, library: NDArray[np.int64], stream: int, rng: np.random.Generator
    ) -> pl.DataFrame:
        """Give requests or sessions their beginning: `_opening` tokens, and the hashes that their blocks come from."""
        texts = _texts(starts, stream)
        blocks, document = np.zeros(len(starts), dtype=np.int64), np.zeros(len(starts), dtype=np.uint64)
        if self.documents:
            chosen = pick(np.arange(1, self.documents + 1, dtype=np.float64) ** -self.zipf, rng, len(starts))
            blocks, document = library[chosen], mixed(texts + chosen.astype(np.uint64) + np.uint64(1))
        return starts.with_columns(
            _opening=pl.Series(self.system_tokens + blocks * self.block_tokens),
            _system=pl.Series(mixed(texts)), _document=pl.Series(document),
        )  # fmt: skip

    def blocks(self, requests: pl.DataFrame, stream: int) -> pl.Series:
        """prefix_blocks: the shared beginning, then the session's own; the part block at the end is nobody else's."""
        tokens = requests["prompt_tokens"].to_numpy()
        n = -(-tokens // self.block_tokens).astype(np.int64)
        ends = np.cumsum(n)
        position = np.arange(n.sum()) - np.repeat(ends - n, n)
        system = self.system_tokens // self.block_tokens
        opening = np.repeat(requests["_opening"].to_numpy() // self.block_tokens, n)
        own = mixed(requests["_owner"].to_numpy().astype(np.uint64) + (np.uint64(stream + 1) << np.uint64(48)))
        key = np.where(position < opening, np.repeat(requests["_document"].to_numpy(), n), np.repeat(own, n))
        key = np.where(position < system, np.repeat(requests["_system"].to_numpy(), n), key)
        ids = mixed(key + position.astype(np.uint64))
        partial = (tokens % self.block_tokens > 0) & (n > 0)
        turn = requests["turn"].fill_null(0).to_numpy()[partial].astype(np.uint64)
        ids[ends[partial] - 1] = mixed(ids[ends[partial] - 1] + turn + np.uint64(1))
        return _lists(ids, ends)


def mixed(numbers: Words) -> Words:
    """Numbers that look random, one for each (the finaliser of SplitMix64)."""
    x = numbers + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _texts(starts: pl.DataFrame, stream: int) -> Words:
    """A number for the system prompt of each request's model and tenant, the same on every machine."""
    owner = pl.concat_str(pl.col("model").fill_null(""), pl.lit("\0"), pl.col("tenant").fill_null(""))
    owners = starts.select(owner).to_series()
    found = {name: _digest(f"{stream}\0{name}") for name in owners.unique()}
    if not found:
        return np.zeros(0, dtype=np.uint64)
    numbers: Words = owners.replace_strict(found, return_dtype=pl.UInt64).to_numpy()
    return numbers


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _lists(flat: Words, ends: NDArray[np.int64]) -> pl.Series:
    import pyarrow as pa

    offsets = np.concatenate([[0], ends])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat, pa.uint64()))
    return pl.Series("prefix_blocks", pl.from_arrow(lists), dtype=pl.List(pl.UInt64))
