"""How much of the prompts is repeated: hits of an infinite cache, of LRU at every size, and how blocks are reused."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.counted import Counted
from toolkit.grouping import grouped
from toolkit.traces import TraceInfo

Ints = NDArray[np.int64]
AGE_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

_f, _i = pl.Float64(), pl.Int64()
SUMMARY = pl.Schema(
    {
        "requests": _i,
        "blocks": _i,
        "distinct_blocks": _i,
        "block_hits": _i,
        "block_hit_ratio": _f,
        "prefix_hits": _i,
        "prefix_hit_ratio": _f,
        "block_tokens": _i,
        "tokens": _i,
        "token_hit_ratio": _f,
        "prefix_token_hit_ratio": _f,
        "scope": pl.String(),
    }
)
CACHE = pl.Schema({"cache_blocks": _i, "cache_tokens": _i, "block_hits": _i, "block_hit_ratio": _f})
REUSE = pl.Schema({"references": _i, "blocks": _i})
RECENCY = pl.Schema({"p": _f, "age_s": _f})


@dataclass(frozen=True)
class References:
    """Every block of every prompt in order of use; request r has the references `starts[r]` to `starts[r + 1]`."""

    starts: Ints
    previous: NDArray[np.integer]  # index of the last reference to the same block, −1 when there is none
    uses: Ints  # how often each distinct block is referred to, ascending

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.previous >= 0

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    def unbroken(self) -> Ints:
        """How many blocks of each prompt, from its first on, an earlier request left in an infinite cache."""
        begin = np.repeat(self.starts[:-1].astype(self.previous.dtype), self.lengths)
        missed = np.flatnonzero((self.previous < 0) | (self.previous >= begin))
        first_miss = np.append(missed, len(self.previous))[np.searchsorted(missed, self.starts[:-1])]
        run: Ints = np.minimum(first_miss, self.starts[1:]) - self.starts[:-1]
        return run


class Prefixes:
    """How much of the prompts is repeated: prefix-cache hits by block and token, and against cache size."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "session_id", "prompt_tokens", "prefix_blocks")
    rows: ClassVar[pl.Expr] = pl.col("prefix_blocks").list.len() > 0

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        hashed = frame.filter(self.rows)
        if not hashed.height:
            empty = {"summary": SUMMARY, "cache": CACHE, "reuse": REUSE, "recency": RECENCY}
            return {name: schema.to_frame() for name, schema in empty.items()}
        found = references(hashed, info.block_scope)
        return {
            "summary": summary(hashed, found, info),
            "cache": cache(found, info.block_tokens),
            "reuse": reuse(found),
            "recency": recency(hashed, found),
        }


def references(hashed: pl.DataFrame, scope: str | None) -> References:
    """Unroll the prompts' blocks; with scope `session` a block belongs to its session."""
    lengths = hashed["prefix_blocks"].list.len().to_numpy()
    keys = hashed["prefix_blocks"].explode(empty_as_null=False).to_numpy()
    if scope == "session":
        keys = keys + np.repeat(hashed["session_id"].fill_null("").hash().to_numpy(), lengths)
    groups = grouped(keys)
    previous = np.full(len(keys), -1, dtype=groups.order.dtype)
    again = ~groups.first[1:]
    previous[groups.order[1:][again]] = groups.order[:-1][again]
    return References(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), previous, np.sort(groups.sizes))


def summary(hashed: pl.DataFrame, found: References, info: TraceInfo) -> pl.DataFrame:
    """One row; tokens are null when the size of a block is unknown."""
    hit, unbroken, blocks = found.hit, found.unbroken(), len(found.previous)
    hits, prefix_hits = int(hit.sum()), int(unbroken.sum())
    row: dict[str, object] = {
        "requests": hashed.height,
        "blocks": blocks,
        "distinct_blocks": len(found.uses),
        "block_hits": hits,
        "block_hit_ratio": hits / blocks,
        "prefix_hits": prefix_hits,
        "prefix_hit_ratio": prefix_hits / blocks,
        "block_tokens": info.block_tokens,
        "scope": info.block_scope,
    }
    if info.block_tokens is not None:
        short = missing_tokens(hashed, found, info.block_tokens)
        tokens = blocks * info.block_tokens - int(short.sum())
        hit_tokens = hits * info.block_tokens - int(short[hit[found.starts[1:] - 1]].sum())
        prefix_tokens = prefix_hits * info.block_tokens - int(short[unbroken == found.lengths].sum())
        row |= {
            "tokens": tokens,
            "token_hit_ratio": hit_tokens / tokens,
            "prefix_token_hit_ratio": prefix_tokens / tokens,
        }
    return pl.DataFrame([row], schema=SUMMARY)


def missing_tokens(hashed: pl.DataFrame, found: References, block_tokens: int) -> Ints:
    """What each prompt's last block lacks to a full one (0 to block_tokens − 1; 0 for a prompt of unknown length)."""
    full = pl.Series(found.lengths * block_tokens)
    prompt = hashed["prompt_tokens"].cast(pl.Int64).fill_null(full)
    short: Ints = (full - prompt).clip(0, block_tokens - 1).to_numpy()
    return short


def cache(found: References, block_tokens: int | None) -> pl.DataFrame:
    """LRU's hits for sizes from one block to all of them, four sizes a doubling."""
    from toolkit.analysis.stack_distances import hits_by_distance

    distinct = len(found.uses)
    hits = np.cumsum(hits_by_distance(found.previous, distinct)[1:])
    sizes = np.unique(np.append(2 ** np.arange(0, np.log2(distinct), 0.25), distinct).astype(np.int64))
    table = pl.DataFrame({"cache_blocks": sizes, "block_hits": hits[sizes - 1]}).with_columns(
        cache_tokens=pl.col("cache_blocks") * pl.lit(block_tokens, dtype=pl.Int64),
        block_hit_ratio=pl.col("block_hits") / len(found.previous),
    )
    return table.select(CACHE.names()).cast(CACHE)


def reuse(found: References) -> pl.DataFrame:
    """How many blocks were referred to once, twice, …"""
    uses = Counted.of_sorted(found.uses)
    return pl.DataFrame({"references": uses.values.astype(np.int64), "blocks": uses.counts}, schema=REUSE)


def recency(hashed: pl.DataFrame, found: References) -> pl.DataFrame:
    """Quantiles of the time since a hit block's previous use; no rows without times or hits."""
    if hashed["arrival_s"].has_nulls() or not found.hit.any():
        return RECENCY.to_frame()
    arrival_s = np.repeat(hashed["arrival_s"].to_numpy(), found.lengths)
    age_s = arrival_s[found.hit] - arrival_s[found.previous[found.hit]]
    return pl.DataFrame({"p": AGE_QUANTILES, "age_s": np.quantile(age_s, AGE_QUANTILES)}, schema=RECENCY)
