"""How much of the prompts is repeated: hits of an infinite cache, of LRU at every size, and how blocks are reused."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.reuse import References, Settled, Stretch
from toolkit.analysis.samples import is_exact
from toolkit.analysis.whole import Whole
from toolkit.counted import Counted
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


class Prefixes:
    """How much of the prompts is repeated: prefix-cache hits by block and token, and against cache size."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "session_id", "prompt_tokens", "prefix_blocks")
    about: ClassVar[str] = "prefix_blocks"

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        return in_one_piece(self, frame, Whole.of(frame, info))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Stretch | None:
        """A part's blocks; null where it has none."""
        known = frame["prefix_blocks"].null_count() < frame.height
        hashed = frame.filter(pl.col("prefix_blocks").list.len() > 0) if known else frame.clear()
        if not hashed.height:
            return None
        by_session = whole.info.block_scope == "session"
        owners = hashed["session_id"].fill_null("").hash().to_numpy() if by_session else None
        found = References.of(hashed["prefix_blocks"], owners)
        lacking = missing_tokens(hashed["prompt_tokens"], found.lengths, whole.info.block_tokens)
        arrival_s = hashed["arrival_s"].fill_null(float("nan")).to_numpy()
        return Stretch.of(found, lacking, arrival_s, exact=is_exact(whole))

    def joined(self, earlier: Stretch | None, later: Stretch | None) -> Stretch | None:
        """Two parts that follow each other as one."""
        return earlier.joined(later) if earlier and later else earlier or later

    def finish(self, parts: Sequence[Stretch | None], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts as one."""
        [found] = parts
        if found is None:
            empty = {"summary": SUMMARY, "cache": CACHE, "reuse": REUSE, "recency": RECENCY}
            return {name: schema.to_frame() for name, schema in empty.items()}
        settled, distinct, tokens = found.whole, len(found.key), whole.info.block_tokens
        return {
            "summary": summary(settled, distinct, whole.info),
            "cache": cache(settled, distinct, tokens),
            "reuse": reuse(found.uses),
            "recency": recency(settled),
        }


def summary(found: Settled, distinct: int, info: TraceInfo) -> pl.DataFrame:
    """One row; tokens are null when the size of a block is unknown."""
    hits = found.distances.n
    row: dict[str, object] = {
        "requests": found.requests,
        "blocks": found.blocks,
        "distinct_blocks": distinct,
        "block_hits": hits,
        "block_hit_ratio": hits / found.blocks,
        "prefix_hits": found.prefix_hits,
        "prefix_hit_ratio": found.prefix_hits / found.blocks,
        "block_tokens": info.block_tokens,
        "scope": info.block_scope,
    }
    if info.block_tokens is not None:
        tokens = found.blocks * info.block_tokens - found.lacking
        row |= {
            "tokens": tokens,
            "token_hit_ratio": (hits * info.block_tokens - found.hits_lacking) / tokens,
            "prefix_token_hit_ratio": (found.prefix_hits * info.block_tokens - found.prefix_lacking) / tokens,
        }
    return pl.DataFrame([row], schema=SUMMARY)


def missing_tokens(prompt_tokens: pl.Series, lengths: Ints, block_tokens: int | None) -> Ints:
    """What each prompt's last block lacks to a full one (0 to block_tokens − 1; 0 where a length is unknown)."""
    if block_tokens is None:
        return np.zeros(len(lengths), dtype=np.int64)
    full = pl.Series(lengths * block_tokens)
    short: Ints = (full - prompt_tokens.cast(pl.Int64).fill_null(full)).clip(0, block_tokens - 1).to_numpy()
    return short


def cache(found: Settled, distinct: int, block_tokens: int | None) -> pl.DataFrame:
    """LRU's hits for sizes from one block to all of them, four sizes a doubling."""
    sizes = np.unique(np.append(2 ** np.arange(0, np.log2(distinct), 0.25), distinct).astype(np.int64))
    hits = np.append(0, found.distances.cumulative)[np.searchsorted(found.distances.values, sizes, side="right")]
    table = pl.DataFrame({"cache_blocks": sizes, "block_hits": hits}).with_columns(
        cache_tokens=pl.col("cache_blocks") * pl.lit(block_tokens, dtype=pl.Int64),
        block_hit_ratio=pl.col("block_hits") / found.blocks,
    )
    return table.select(CACHE.names()).cast(CACHE)


def reuse(uses: Ints) -> pl.DataFrame:
    """How many blocks were referred to once, twice, …"""
    counted = Counted.of_sorted(np.sort(uses))
    return pl.DataFrame({"references": counted.values.astype(np.int64), "blocks": counted.counts}, schema=REUSE)


def recency(found: Settled) -> pl.DataFrame:
    """Quantiles of the time since a hit block's previous use; no rows without times or hits."""
    ages = found.ages.counted
    if not found.timed or not ages.n:
        return RECENCY.to_frame()
    return pl.DataFrame({"p": AGE_QUANTILES, "age_s": ages.quantile(AGE_QUANTILES)}, schema=RECENCY)
