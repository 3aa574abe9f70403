"""A workload to Parquet, window by window: what is in memory is one window, however long the trace."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from toolkit.errors import InputFailure
from toolkit.schema import TRUTH, conform
from toolkit.traces import TraceInfo
from workloads.generate_spec import Workload
from workloads.generators.composing import Composer
from workloads.generators.edges import Edge
from workloads.generators.numbering import Numbering
from workloads.trace_writer import TraceWriter

WINDOW_BYTES = 48 * 2**20  # about what one window's frame should take
MOST_ROWS = 400_000
FIRST_SHARE = 1 / 1024  # of the span, the first window; then they grow to WINDOW_BYTES
Progress = Callable[[float, int], None]  # seconds done, requests so far


@dataclass(frozen=True)
class Generated:
    """What was written."""

    info: TraceInfo
    truth: pl.DataFrame
    written_bytes: int


class Sources(Protocol):
    """A workload's streams, wherever they are made."""

    truth: Sequence[pl.DataFrame]  # of each stream
    notes: Sequence[tuple[str, ...]]

    def upto(self, end_s: float) -> list[pl.DataFrame]:
        """Each stream's requests since the last call, up to `end_s`."""
        ...


class Streams:
    """Those streams of a workload that are `numbers`, made here; each has random numbers of its own."""

    def __init__(self, workload: Workload, seed: int, numbers: Sequence[int]):
        rngs = np.random.default_rng(seed).spawn(len(workload.streams))
        chosen = [(*workload.streams[i], i, rngs[i]) for i in numbers]
        planted = [Composer(s, i, rng).compose(g, workload.settings.span_s) for s, g, i, rng in chosen]
        self.truth = [p.truth for p in planted]
        self.notes = [p.notes for p in planted]
        self._edge = Edge()
        self._sources = [p.requests(self._edge.upto()) for p in planted]
        self._pool = ThreadPoolExecutor()

    def upto(self, end_s: float) -> list[pl.DataFrame]:
        self._edge.end_s = end_s
        return list(self._pool.map(next, self._sources))


class Windows:
    """A planted workload: its truth, and its requests window by window, numbered, in arrival order."""

    def __init__(self, workload: Workload, seed: int, sources: Sources | None = None):
        self.workload, self.seed = workload, seed
        self.sources = sources or Streams(workload, seed, range(len(workload.streams)))
        self.truth = conform(pl.concat(self.sources.truth), TRUTH, source="truth")
        self.notes = tuple(note for notes in self.sources.notes for note in notes)
        self.end_s = 0.0
        self.numbering = Numbering()

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Frames of TRACE; `end_s` is how far they reach."""
        settings = self.workload.settings
        width_s, limit = settings.span_s * FIRST_SHARE, settings.requests
        while self.end_s < settings.span_s and (limit is None or self.numbering.next < limit):
            self.end_s = min(self.end_s + width_s, settings.span_s)
            window = self._together(self.sources.upto(self.end_s))
            if limit is not None:
                window = window.head(limit - self.numbering.next)
            width_s *= _growth(window)
            yield self.numbering.number(window)

    def _together(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        """The streams' windows as one, in arrival order; ties in the streams' order."""
        tagged = [self._with_session(number, part) for number, part in enumerate(parts)]
        whole = tagged[0] if len(tagged) == 1 else pl.concat(tagged, how="diagonal")
        step_s = self.workload.settings.clock_step_s
        if step_s:
            whole = whole.with_columns((pl.col("arrival_s") / step_s).floor() * step_s)
        return whole if len(tagged) == 1 else whole.sort("arrival_s", maintain_order=True)

    def _with_session(self, number: int, part: pl.DataFrame) -> pl.DataFrame:
        """Sessions numbered over all streams, null outside any."""
        if not self.workload.streams[number][0].sessions:
            return part.drop("_owner", "_turns")
        name = pl.col("_owner") * len(self.workload.streams) + number
        return part.with_columns(_session=pl.when(pl.col("_turns") > 1).then(name)).drop("_owner")


def generate(workload: Workload, target: Path, seed: int, progress: Progress | None = None) -> Generated:
    """Write the workload's trace to `target`; the file appears whole or not at all."""
    windows = Windows(workload, seed)
    with TraceWriter(target, lists=workload.block_tokens is not None) as writer, ThreadPoolExecutor(1) as beside:
        writing: Future[None] | None = None
        for window in windows:
            if writing is not None:
                writing.result()
            writing = beside.submit(writer.write, window)
            if progress is not None:
                progress(windows.end_s, windows.numbering.next)
        if writing is not None:
            writing.result()
        if writer.rows == 0:
            raise empty(workload)
        info = described(windows, writer.rows, writer.first_s, writer.last_s)
        writer.finish(info)
    return Generated(info, windows.truth, target.stat().st_size)


def _growth(window: pl.DataFrame) -> float:
    """By how much the next window should be longer, at most eight times."""
    size = max(window.estimated_size() / WINDOW_BYTES, len(window) / MOST_ROWS, 1 / 8)
    return float(1 / size)


def empty(workload: Workload) -> InputFailure:
    return InputFailure("nothing arrives in span_s", where=workload.name, hint="raise the rates or span_s")


def described(windows: Windows, rows: int, first_s: float, last_s: float) -> TraceInfo:
    """What is known of a generated trace, or of a part of it."""
    workload = windows.workload
    return TraceInfo(
        name=workload.name,
        format="canonical",
        sha256=sha256(f"{workload.sha256} {windows.seed}".encode()).hexdigest(),
        rows_read=rows,
        rows_kept=rows,
        span_s=last_s - first_s,
        time_unit="s",
        time_unit_reason="generated",
        clock_step_s=workload.settings.clock_step_s,
        epoch=workload.settings.epoch,
        block_tokens=workload.block_tokens,
        block_scope="global" if workload.block_tokens else None,
        notes=(f"Generated with seed {windows.seed}; sha256 is of the specification and the seed.", *windows.notes),
    )
