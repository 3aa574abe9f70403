"""A workload to Parquet, window by window: what is in memory is one window, however long the trace."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl

from toolkit.errors import InputFailure
from toolkit.schema import TRUTH, conform
from toolkit.traces import TraceInfo
from workloads.generate_spec import Settings, Workload
from workloads.generators.composing import Composer
from workloads.generators.edges import Edge
from workloads.generators.numbering import Numbering
from workloads.generators.stream import Stream
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


class Streams:
    """Those streams of a workload that are `numbers`, made here; each has random numbers of its own."""

    def __init__(self, workload: Workload, seed: int, numbers: Sequence[int]):
        rngs = np.random.default_rng(seed).spawn(len(workload.streams))
        chosen = [(*workload.streams[i], i, rngs[i]) for i in numbers]
        planted = [Composer(s, i, rng).compose(g, workload.settings.span_s) for s, g, i, rng in chosen]
        self.truth = [p.truth for p in planted]
        self.notes = [p.notes for p in planted]
        self._tags = [partial(_with_session, s, i, len(workload.streams)) for s, _, i, _ in chosen]
        self._edge = Edge()
        self._sources = [p.requests(self._edge.upto()) for p in planted]
        self._pool = ThreadPoolExecutor()

    def upto(self, end_s: float) -> list[pl.DataFrame]:
        """Each stream's requests since the last call, up to `end_s`."""
        self._edge.end_s = end_s
        return list(self._pool.map(lambda source, tag: tag(next(source)), self._sources, self._tags))


def _with_session(stream: Stream, number: int, streams: int, part: pl.DataFrame) -> pl.DataFrame:
    """Sessions numbered over all streams, null outside any."""
    if not stream.sessions:
        return part.drop("_owner", "_turns")
    name = pl.col("_owner") * streams + number
    return part.with_columns(_session=pl.when(pl.col("_turns") > 1).then(name)).drop("_owner")


@dataclass(frozen=True)
class About:
    """What is known of a workload's trace before it is made."""

    workload: Workload
    seed: int
    truth: pl.DataFrame
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, workload: Workload, seed: int, truth: Sequence[pl.DataFrame], notes: Sequence[tuple[str, ...]]
    ) -> "About":
        """By what each stream says of itself."""
        whole = conform(pl.concat(truth), TRUTH, source="truth")
        return cls(workload, seed, whole, tuple(note for own in notes for note in own))

    def until(self, last_s: float) -> "About":
        """What holds for a trace whose last request came at `last_s`, as a number of requests may cut it off early."""
        late = (pl.col("start_s") > last_s).fill_null(False)
        if self.workload.settings.requests is None or not self.truth.select(late.any()).item():
            return self
        note = (
            f"The number of requests ends the trace at {last_s:g} s: what would begin later is left out of the truth."
        )
        return replace(self, truth=self.truth.filter(~late), notes=(*self.notes, note))

    def described(self, rows: int, first_s: float, last_s: float) -> TraceInfo:
        """What is known of the trace, or of a part of it."""
        workload = self.workload
        return TraceInfo(
            name=workload.name,
            format="canonical",
            sha256=sha256(f"{workload.sha256} {self.seed}".encode()).hexdigest(),
            rows_read=rows,
            rows_kept=rows,
            span_s=last_s - first_s,
            time_unit="s",
            time_unit_reason="generated",
            clock_step_s=workload.settings.clock_step_s,
            epoch=workload.settings.epoch,
            block_tokens=workload.block_tokens,
            block_scope="global" if workload.block_tokens else None,
            notes=(f"Generated with seed {self.seed}; sha256 is of the specification and the seed.", *self.notes),
        )


@dataclass(frozen=True)
class Size:
    """How much the streams made of a window, before they are brought together."""

    rows: int
    size_bytes: int

    @classmethod
    def of(cls, parts: "Sequence[pl.DataFrame]") -> "Size":
        return cls(sum(map(len, parts)), int(sum(part.estimated_size() for part in parts)))


class Cuts:
    """Where windows end: each is told how large the one before it was, and so is the same wherever that was made."""

    def __init__(self, settings: Settings):
        self._span_s, self._limit = settings.span_s, settings.requests
        self._width_s = settings.span_s * FIRST_SHARE
        self.end_s, self.requests = 0.0, 0

    @property
    def all(self) -> bool:
        return self.end_s >= self._span_s or (self._limit is not None and self.requests >= self._limit)

    def next(self) -> float:
        """The next window's end."""
        self.end_s = min(self.end_s + self._width_s, self._span_s)
        return self.end_s

    def made(self, size: Size) -> int:
        """How many of the window's requests are in the trace, now that its size is known."""
        larger = max(size.size_bytes / WINDOW_BYTES, size.rows / MOST_ROWS, 1 / 8)  # eight times as long at most
        self._width_s *= float(1 / larger)
        kept = size.rows if self._limit is None else min(size.rows, self._limit - self.requests)
        self.requests += kept
        return kept


class Windows:
    """A planted workload: its truth, and its requests window by window, numbered, in arrival order."""

    def __init__(self, workload: Workload, seed: int):
        self.workload = workload
        self._streams = Streams(workload, seed, range(len(workload.streams)))
        self.about = About.of(workload, seed, self._streams.truth, self._streams.notes)
        self.cuts = Cuts(workload.settings)

    @property
    def truth(self) -> pl.DataFrame:
        return self.about.truth

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Frames of TRACE; `cuts` knows how far they reach."""
        numbering = Numbering()
        while not self.cuts.all:
            parts = self._streams.upto(self.cuts.next())
            kept = self.cuts.made(Size.of(parts))
            yield numbering.number(together(parts, self.workload.settings.clock_step_s, kept))


def together(parts: Sequence[pl.DataFrame], step_s: float | None, rows: int) -> pl.DataFrame:
    """The streams' windows as one, its first `rows` in arrival order; ties in the streams' order."""
    whole = parts[0] if len(parts) == 1 else pl.concat(parts, how="diagonal")
    if step_s:
        whole = whole.with_columns((pl.col("arrival_s") / step_s).floor() * step_s)
    return (whole if len(parts) == 1 else whole.sort("arrival_s", maintain_order=True)).head(rows)


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
                progress(windows.cuts.end_s, windows.cuts.requests)
        if writing is not None:
            writing.result()
        if writer.rows == 0:
            raise empty(workload)
        about = windows.about.until(writer.last_s)
        info = about.described(writer.rows, writer.first_s, writer.last_s)
        writer.finish(info)
    return Generated(info, about.truth, target.stat().st_size)


def empty(workload: Workload) -> InputFailure:
    return InputFailure("nothing arrives in span_s", where=workload.name, hint="raise the rates or span_s")
