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
    previous: Ints  # index of the last reference to the same block, −1 when there is none
    uses: Ints  # how often each distinct block is referred to, ascending

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.previous >= 0

    @property
    def prefix_hit(self) -> NDArray[np.bool_]:
        """Hits that an earlier request left, in an unbroken run from the prompt's first block."""
        begin = np.repeat(self.starts[:-1], np.diff(self.starts))
        missed = np.flatnonzero((self.previous < 0) | (self.previous >= begin))
        limit = np.append(missed, len(self.previous))[np.searchsorted(missed, self.starts[:-1])]
        return np.arange(len(self.previous)) < np.repeat(limit, np.diff(self.starts))


class Prefixes:
    """How much of the prompts is repeated: prefix-cache hits by block and token, and against cache size."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "session_id", "prompt_tokens", "prefix_blocks")

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        hashed = frame.filter(pl.col("prefix_blocks").list.len() > 0)
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
    keys = ["session_id", "prefix_blocks"] if scope == "session" else ["prefix_blocks"]
    unrolled = hashed.select(keys).explode("prefix_blocks", empty_as_null=False)
    block = unrolled["prefix_blocks"] if len(keys) == 1 else unrolled.select(pl.struct(keys).hash()).to_series()
    groups = grouped(block.to_numpy())
    previous = np.full(len(block), -1, dtype=np.int64)
    again = ~groups.first[1:]
    previous[groups.order[1:][again]] = groups.order[:-1][again]
    lengths = hashed["prefix_blocks"].list.len().to_numpy()
    return References(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), previous, np.sort(groups.sizes))


def summary(hashed: pl.DataFrame, found: References, info: TraceInfo) -> pl.DataFrame:
    """One row; tokens are null when the size of a block is unknown."""
    hit, prefix_hit, blocks = found.hit, found.prefix_hit, len(found.previous)
    row: dict[str, object] = {
        "requests": hashed.height,
        "blocks": blocks,
        "distinct_blocks": len(found.uses),
        "block_hits": int(hit.sum()),
        "block_hit_ratio": float(hit.mean()),
        "prefix_hits": int(prefix_hit.sum()),
        "prefix_hit_ratio": float(prefix_hit.mean()),
        "block_tokens": info.block_tokens,
        "scope": info.block_scope,
    }
    tokens = tokens_of(hashed, found, info.block_tokens)
    if tokens is not None:
        total = int(tokens.sum())
        shares = {
            "token_hit_ratio": tokens[hit].sum() / total,
            "prefix_token_hit_ratio": tokens[prefix_hit].sum() / total,
        }
        row |= {"tokens": total} | shares
    return pl.DataFrame([row], schema=SUMMARY)


def tokens_of(hashed: pl.DataFrame, found: References, block_tokens: int | None) -> Ints | None:
    """Tokens in each reference: full blocks, but a prompt's last has the rest of the prompt (1 to block_tokens)."""
    if block_tokens is None:
        return None
    tokens = np.full(len(found.previous), block_tokens, dtype=np.int64)
    full = (np.diff(found.starts) - 1) * block_tokens
    prompt = hashed["prompt_tokens"].cast(pl.Int64).fill_null(pl.Series(full + block_tokens)).to_numpy()
    tokens[found.starts[1:] - 1] = np.clip(prompt - full, 1, block_tokens)
    return tokens


def cache(found: References, block_tokens: int | None) -> pl.DataFrame:
    """LRU's hits for sizes from one block to all of them, four sizes a doubling."""
    from toolkit.analysis.stack_distances import stack_distances

    distances = stack_distances(found.previous)
    hits = np.cumsum(np.bincount(distances, minlength=len(found.uses) + 1)[1:])
    doublings = np.log2(len(found.uses))
    sizes = np.unique(np.append(2 ** np.arange(0, doublings, 0.25), len(found.uses)).astype(np.int64))
    table = pl.DataFrame({"cache_blocks": sizes, "block_hits": hits[sizes - 1]}).with_columns(
        cache_tokens=pl.col("cache_blocks") * pl.lit(block_tokens, dtype=pl.Int64),
        block_hit_ratio=pl.col("block_hits") / len(distances),
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
    arrival_s = np.repeat(hashed["arrival_s"].to_numpy(), np.diff(found.starts))
    age_s = arrival_s[found.hit] - arrival_s[found.previous[found.hit]]
    return pl.DataFrame({"p": AGE_QUANTILES, "age_s": np.quantile(age_s, AGE_QUANTILES)}, schema=RECENCY)
