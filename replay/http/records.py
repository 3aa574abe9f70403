"""From journals to the run's tables, part by part, each request once."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from replay.http.journal import Reader, in_use
from toolkit.errors import RunFailure
from toolkit.runs import Run, RunWriter

PART_S, PART_ROWS = 5.0, 50_000
ENDING_S = 3.0  # in which workers end whose first process was killed
FROM_TRACE = ("model", "tenant", "tier", "predicted_output_tokens", "slo_ttft_s", "slo_tpot_s")
MEASURED: dict[str, Any] = {
    "id": pl.Int64,
    "status": pl.String,
    "error": pl.String,
    "attempts": pl.Int32,
    "arrival_s": pl.Float64,
    "due_s": pl.Float64,
    "sent_s": pl.Float64,
    "first_byte_s": pl.Float64,
    "first_token_s": pl.Float64,
    "finish_s": pl.Float64,
    "prompt_tokens": pl.Int32,
    "cached_tokens": pl.Int32,
    "output_tokens": pl.Int32,
    "chunks": pl.Int32,
    "disagrees": pl.String,
    "token_s": pl.List(pl.Float32),
}
HAPPENED: dict[str, Any] = {"event": pl.String, "id": pl.Int64, "time_s": pl.Float64, "detail": pl.String}


class Records:
    """Reads the workers' journals and writes what is new in them to the run."""

    def __init__(self, trace: pl.DataFrame, writer: RunWriter, engine: str):
        self._trace = trace.select("request_id", *FROM_TRACE, trace_prompt="prompt_tokens")
        self._writer, self._engine = writer, engine
        self._readers: list[Reader] = []
        self._known = written(writer)
        self._lines: list[dict[str, Any]] = []
        self._next_s = 0.0
        self.count = len(self._known)

    def follow(self, journals: Sequence[Path]) -> None:
        """Read these journals from their start."""
        self._readers = [Reader(path) for path in journals]

    def look(self, *, last: bool = False) -> bool:
        """Take in what is new; write a part when it is time, or the last one. Whether it did."""
        for reader in self._readers:
            while lines := list(reader.lines()):
                self._lines += lines
        if self._lines and (last or time.monotonic() >= self._next_s or len(self._lines) >= PART_ROWS):
            self._write()
            self._next_s = time.monotonic() + PART_S
            return True
        return False

    def _write(self) -> None:
        events = [line for line in self._lines if "event" in line]
        ended = [line for line in self._lines if "event" not in line]
        self._lines = []
        found = pl.DataFrame(ended, schema=MEASURED).unique("id", keep="first", maintain_order=True)
        fresh = found.filter(~pl.col("id").is_in(self._known.implode())).rename({"id": "request_id"})
        self._known = pl.concat([self._known, fresh["request_id"]])
        self.count = len(self._known)
        happened = pl.DataFrame(events, schema=HAPPENED).rename({"event": "kind", "id": "request_id"})
        self._writer.append("events", happened.join(self._trace.select("request_id", "model"), on="request_id"))
        self._writer.append("wire", fresh.select("request_id", *WIRE_ONLY, last_token_s="finish_s"))
        self._writer.append("outcomes", self._outcomes(fresh))  # the last: by it a request counts as answered

    def _outcomes(self, fresh: pl.DataFrame) -> pl.DataFrame:
        joined = fresh.join(self._trace, on="request_id", how="left", maintain_order="left")
        prompt = pl.coalesce("prompt_tokens", "trace_prompt")
        told = joined.with_columns(prompt_tokens=prompt, engine=pl.lit(self._engine))
        return told.drop("due_s", "first_byte_s", "chunks", "disagrees", "trace_prompt")


WIRE_ONLY = ("due_s", "sent_s", "first_byte_s", "first_token_s", "chunks", "disagrees")


def written(writer: RunWriter) -> pl.Series:
    """The requests whose outcomes are in the run's parts."""
    table = Run(writer.path, writer.info).table("outcomes")
    return table.select("request_id").collect().to_series()


def answered(writer: RunWriter) -> dict[int, float]:
    """The requests that have an outcome, with when each ended as far as that is known."""
    table = Run(writer.path, writer.info).table("outcomes")
    ended = table.select("request_id", pl.coalesce("finish_s", "sent_s", "arrival_s")).collect()
    return dict(ended.iter_rows())


def leftover(folder: Path) -> list[Path]:
    """The journals of workers that ended before their run did; RunFailure when one still works."""
    journals = sorted(folder.glob("journal-*.jsonl"))
    until_s = time.monotonic() + ENDING_S
    for path in journals:
        while in_use(path) and time.monotonic() < until_s:
            time.sleep(0.05)
        if in_use(path):
            hint = "end that replay first, or wait until it has ended"
            raise RunFailure("a process of an earlier replay still sends for this run", where=str(path), hint=hint)
    return journals
