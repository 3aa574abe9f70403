"""A trace as Mooncake JSONL, which replay tools of this field read: a self-contained request a line.

Times are whole milliseconds, blocks have 512 tokens (the format has no other), equal ids are equal text in all of the
file. A request without a length has its text instead. Sessions are left out: the tools that read them add up
the prompts of their turns, while a trace's prompts are whole.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from toolkit.errors import InputFailure
from toolkit.traces import Trace
from workloads.loaders.mooncake import BLOCK_TOKENS

WRITTEN = ("arrival_s", "prompt_tokens", "output_tokens", "prefix_blocks", "prompt")
UNSAID = ("request_id", "source_status", "source_ttft_s", "source_e2e_s")
ROWS_A_BATCH = 50_000


def write_mooncake(trace: Trace, target: Path) -> list[str]:
    """Write `trace`, whole or not at all, and return what the format could not hold, a sentence each."""
    _check(trace)
    part = target.with_name(target.name + ".partial")
    rows = trace.frame.select(*WRITTEN, "session_id").collect_batches(chunk_size=ROWS_A_BATCH, engine="streaming")
    try:
        with part.open("wb") as file:
            file.writelines(orjson.dumps(line) + b"\n" for line in _lines(rows, Blocks.of(trace)))
        part.replace(target)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise InputFailure(what, where=str(target), hint="choose another path") from error
    finally:
        part.unlink(missing_ok=True)
    return _left_out(trace)


def _check(trace: Trace) -> None:
    """What every line needs."""
    unknown = pl.col("prompt_tokens").is_null() & pl.col("prompt").is_null()
    counts = trace.frame.select(times=pl.col("arrival_s").is_null().sum(), lengths=unknown.sum()).collect()
    for name, what in (("times", "no arrival"), ("lengths", "neither a prompt's length nor its text")):
        if count := counts[name].item():
            raise InputFailure(f"{count:,} requests have {what}, which the format needs", where=trace.info.name)


class Blocks:
    """Prefix blocks as the format counts them: as they are, or `many` joined to one, numbered as they come."""

    def __init__(self, many: int, by_session: bool):
        self._many, self._by_session = many, by_session
        self._ids: dict[Any, int] = {}

    @classmethod
    def of(cls, trace: Trace) -> "Blocks":
        """InputFailure for blocks that do not add up to the format's."""
        tokens = trace.info.block_tokens or BLOCK_TOKENS
        if BLOCK_TOKENS % tokens:
            what = f"has prefix blocks of {tokens} tokens, and the format has {BLOCK_TOKENS}"
            raise InputFailure(what, where=trace.info.name)
        return cls(BLOCK_TOKENS // tokens, trace.info.block_scope == "session")

    def joined(self, blocks: list[int], session: str | None) -> list[int]:
        if self._many == 1 and not self._by_session:
            return blocks
        groups = (tuple(blocks[start : start + self._many]) for start in range(0, len(blocks), self._many))
        owner = session if self._by_session else None
        return [self._ids.setdefault((owner, group), len(self._ids)) for group in groups]


def _lines(batches: Iterator[pl.DataFrame], blocks: Blocks) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for arrival_s, prompt, output, prefix, text, session in batch.iter_rows():
            line = {
                "timestamp": round(arrival_s * 1_000),
                "input_length": prompt,
                "text_input": text if prompt is None else None,
                "output_length": output,
                "hash_ids": None if prefix is None or prompt is None else blocks.joined(prefix, session),
            }
            yield {name: value for name, value in line.items() if value is not None}


def _left_out(trace: Trace) -> list[str]:
    """Columns that hold something and have no place in the format, and what rounding did."""
    others = [name for name in trace.frame.collect_schema().names() if name not in (*WRITTEN, *UNSAID)]
    whole = ((pl.col("arrival_s") * 1_000).round() / 1_000 - pl.col("arrival_s")).abs().max().alias("arrival_s")
    known = trace.frame.select(*(pl.col(n).is_not_null().any() for n in others), whole).collect().row(0, named=True)
    moved = known.pop("arrival_s") or 0.0
    gone = [name for name, any_known in known.items() if any_known]
    said = [f"left out, for the format has no place for them: {', '.join(gone)}"] if gone else []
    return said + (
        [f"arrivals are rounded to the millisecond, by {moved * 1e3:.2g} ms at most"] if moved > 1e-9 else []
    )
