"""What `vllm bench serve --save-result --save-detailed` writes, and SGLang's bench_serving without the starts."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import InputFailure, nearest
from toolkit.protocols import LoadOptions, Scan
from workloads.fields import NUMBER, TEXT, TIME, TOKEN_TIMES, TOKENS, Row
from workloads.outline import outline
from workloads.records import as_object, check, dig, document_frame, need_list

SUMMARY = {"duration", "completed", "total_input_tokens", "request_throughput"}
DETAIL = ("input_lens", "output_lens", "ttfts", "itls", "errors")
UNRECORDED = {"start_times": None, "queue_times": 0.0}  # what earlier versions do not write
FIELDS = {
    "input_lens": TOKENS,
    "output_lens": TOKENS,
    "ttfts": NUMBER,
    "e2e_s": NUMBER,
    "token_s": TOKEN_TIMES,
    "start_times": TIME,
    "queue_times": NUMBER,
    "errors": TEXT,
    "model_id": TEXT,
}
ARRIVAL = "arrival is the moment at which the client had a request to send; without queue_times, at which it sent it"
NO_STARTS = "the file has no start_times: its requests have latencies but no arrival"
CHUNKS = "token times are known where a reply came in as many chunks as tokens"


class VllmBench:
    """vLLM `bench serve --save-detailed` or SGLang `bench_serving --output-details`: lengths, latencies, measured."""

    def sniff(self, head: bytes, name: str) -> float:
        return 1.0 if outline(head) >= SUMMARY else 0.0

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        check(paths, options)
        timed = all(b'"start_times"' in path.read_bytes() for path in paths)
        frame = document_frame(paths, FIELDS, _requests)
        return Scan(
            frame=_timed(frame) if timed else _untimed(frame),
            time_unit="s" if timed else None,
            time_unit_reason="the format's times are seconds",
            notes=(ARRIVAL, CHUNKS) if timed else (NO_STARTS, CHUNKS),
            engine="vllm",
        )


def _timed(frame: pl.LazyFrame) -> pl.LazyFrame:
    """A failed request has no first token, and its latency is not recorded."""
    worked = pl.col("errors").is_null()
    return (
        _common(frame)
        .with_columns(
            arrival=pl.col("start_times") - pl.col("queue_times"),
            sent="start_times",
            first_token=pl.when(worked).then(pl.col("start_times") + pl.col("ttfts")),
            finish=pl.when(worked).then(pl.col("start_times") + pl.col("e2e_s")),
            token_s=pl.col("token_s") + pl.col("queue_times").cast(pl.Float32),
        )
        .drop(FIELDS.keys() - {"token_s"})
    )


def _untimed(frame: pl.LazyFrame) -> pl.LazyFrame:
    worked = pl.col("errors").is_null()
    return (
        _common(frame)
        .with_columns(source_ttft_s=pl.when(worked).then("ttfts"), source_e2e_s=pl.when(worked).then("e2e_s"))
        .drop(FIELDS.keys())
    )


def _common(frame: pl.LazyFrame) -> pl.LazyFrame:
    worked = pl.col("errors").is_null()
    return frame.with_columns(
        model="model_id",
        prompt_tokens="input_lens",
        output_tokens="output_lens",
        error="errors",
        source_status=pl.when(worked).then(pl.lit("ok")).otherwise(pl.lit("error")),
    )


def _requests(document: Any, where: str) -> Iterator[Row]:
    arrays = {name: _array(as_object(document, where), name, where) for name in DETAIL}
    for name, unknown in UNRECORDED.items():
        arrays[name] = _array(document, name, where) if document.get(name) else [unknown] * len(arrays["ttfts"])
    sizes = {name: len(values) for name, values in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise InputFailure(f"arrays of different lengths ({sizes})", where=where)
    for number in range(sizes["ttfts"]):
        row = {name: values[number] for name, values in arrays.items()}
        gaps = row["itls"] if isinstance(row["itls"], list) else []
        yield {**row, "model_id": dig(document, "model_id"), **_tokens(row, gaps, where)}


def _array(document: dict[str, Any], name: str, where: str) -> list[Any]:
    if name not in document:
        hint = f"save it with --save-detailed; {nearest(name, document)}"
        raise InputFailure(f"no key '{name}'", where=where, hint=hint)
    return need_list(document, name, where)


def _tokens(row: dict[str, Any], gaps: list[Any], where: str) -> Row:
    try:
        times = list(accumulate([row["ttfts"], *gaps]))
        return {
            "e2e_s": times[-1],
            "token_s": times if len(times) == row["output_lens"] else None,
            "errors": row["errors"] or None,
        }
    except TypeError:
        raise InputFailure("'ttfts' or 'itls' holds something that is no number", where=where) from None
