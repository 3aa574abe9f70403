"""What a plugin must do. No base classes: a class that has these members is a plugin.

The first line of a plugin's docstring is its summary in `trace plugins`; the keyword arguments of its `__init__` are
its parameters on the command line (`NAME:key=value`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo


@dataclass(frozen=True)
class LoadOptions:
    """What the user said about a source. `columns` maps canonical names to the source's."""

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str | None = None


@dataclass(frozen=True)
class Scan:
    """One source as its loader understands it, before anything is counted, sorted or made relative.

    `frame` has any of TRACE's columns but request_id, in source order, except that
    - the arrival is `arrival`, in `time_unit` (a number, or a Datetime when that is "datetime"), or absent where the
      source has no times; where it only has times since a session's start, they are given and a note says so;
    - `drop_reason` (str, optional) is null for a row that is kept and the reason for one that is not; a kept row
      without a time, or with a negative or impossible token count, is dropped by whoever reads the scan;
    - `source_id` and `parent_source_id` (str, optional) name requests, to be resolved into parent_id;
    - `sent`, `start`, `first_token`, `finish` (optional, the arrival's clock and unit), `cached_tokens`, `error` and
      `token_s` (optional) are what a real run measured; a scan with `finish` also yields OUTCOMES, whose status is
      `status` (optional, one of STATUSES), else read from `source_status`;
    - `row_hash` (u64, optional) stands for the whole source row when duplicates are counted, where the source has
      columns that the trace has not.
    """

    frame: pl.LazyFrame
    time_unit: str | None  # null: unknown, to be inferred
    time_unit_reason: str
    block_tokens: int | None = None
    block_scope: str | None = None
    token_unit: str = "tokens"
    notes: tuple[str, ...] = ()
    engine: str = "unknown"  # what produced the measured latencies, where there are any
    dropped: Mapping[str, int] = field(default_factory=dict)  # rows by reason that never reach `frame`
    reread: "Callable[[], Scan] | None" = None  # when `frame` cannot be parsed: the scan that can, or InputFailure
    restored: TraceInfo | None = None  # `frame` is a trace already, and this is what is known about it


class Loader(Protocol):
    """Reads one trace format."""

    def sniff(self, head: bytes, name: str) -> float:
        """How sure the loader is, 0 to 1, that a file with these first bytes (decompressed) and this name is its own.

        1 needs a mark that no other format has; a loader that would merely manage to read the file says 0.1.
        """
        ...

    def scan(self, paths: list[Path], options: LoadOptions) -> Scan:
        """Describe the sources (decompressed, of one format, in order) lazily; raise InputFailure for a bad one."""
        ...


@dataclass(frozen=True)
class Planted:
    """Requests to come, and what is planted in them.

    `requests(edges)` yields one frame an edge: the requests from the edge before (at first 0) up to this one, by
    arrival. It has `arrival_s` and any of TRACE's columns but request_id and parent_id; the stream's settings fill
    what is absent or null. It may be asked once. `truth` has TRUTH's columns, those that it needs.
    """

    requests: Callable[[Iterable[float]], Iterator[pl.DataFrame]]
    truth: pl.DataFrame
    notes: tuple[str, ...] = ()


class Generator(Protocol):
    """Makes the arrivals of a stream, and whatever else it knows of them, from the keys of its `__init__`."""

    def plant(self, span_s: float, factor: "RateFactor", rng: np.random.Generator) -> Planted:
        """Decide what is to be found in `span_s` seconds; the same `rng` gives the same requests.

        The rate is multiplied by `factor`.
        """
        ...


class RateFactor(Protocol):
    """What the time of day and the like do to a rate."""

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The factor at each time, 0 or more."""
        ...

    def cuts(self, start_s: float, end_s: float) -> NDArray[np.float64]:
        """Times between which the factor may be taken as constant."""
        ...


class Analysis(Protocol):
    """Answers one question about a trace, or about what was measured. No plotting, no I/O."""

    table: ClassVar[Literal["trace", "outcomes"]]  # which table it reads
    columns: ClassVar[tuple[str, ...]]  # of that table, all that `run` reads

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """The answer as named tables, always all of them; without rows where the trace has nothing to say.

        `frame` holds `columns` only, sorted by arrival; `model`, `tenant` and `status` may be Categorical.
        """
        ...


@dataclass(frozen=True)
class Curve:
    """How a request's rank moves as output tokens are served; all of it runs compiled.

    rank(served) = rank(0) + slope·served + offsets[i], where i counts the boundaries that are ≤ served. A boundary is
    in output tokens; `offsets` has one entry more than `boundaries`.
    """

    slope: float = 0.0
    boundaries: tuple[int, ...] = ()
    offsets: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Preemption:
    """When a running request may lose its place.

    `memory`: only when KV blocks run out. `rank`: also when a waiting request ranks before it. The victim is the
    running request that ranks last. `hold_share`: once it has produced this share of its output a request is not
    displaced by rank (TRAIL's no-swap-out share); 1 never holds.
    """

    when: Literal["memory", "rank"] = "memory"
    hold_share: float = 1.0


class Waiting(Protocol):
    """The requests that wait at one engine, in request_id order."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column of TRACE as an array (texts as small integers in alphabetical order, null -1), or `served`:
        the output tokens each has produced so far.
        """
        ...


class Scheduler(Protocol):
    """Orders requests at one engine.

    Optional members, looked up by name:
    - `curve: Curve` (default: a rank never moves) and `preemption: Preemption` (default: memory pressure only);
    - `observe(outcomes, now_s)`, called every `observe_every_s` seconds of the replay with the OUTCOMES rows that ended
      since the last call; then `rank` is asked again for everything that has not ended;
    - `order(waiting: Waiting, now_s) -> permutation`, called when somebody could be admitted from a queue that has
      changed: the positions of the waiting, first to run first. Ranks then only tell who loses its place.
    The first two run compiled; the last two are asked at those points only, and may keep a memory.
    """

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        """A number for each of `requests` (TRACE's columns); the smallest runs first, ties by request_id."""
        ...


class LatencyModel(Protocol):
    """Predicts a step's time as a sum of parts, each in seconds and vectorised over NumPy arrays.

    Optional members, looked up by name: `mixed_attention_s(chunk, prior, sequences, context)`, the attention of a batch
    that prefills and decodes (default: the sum of the two); `skew`, the share of the way from mean contexts to the
    longest that a batch of unequal contexts takes, with `bounds` of its bins (default: none); `shared_s(tokens)`, what
    instances in lockstep do together (default: nothing).
    """

    def dense_s(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Everything but attention and sampling, for a batch of `tokens`; with the host's time a step."""
        ...

    def head_s(self, sequences: NDArray[np.float64]) -> NDArray[np.float64]:
        """Output projection and sampling of `sequences` sequences; 0 for none."""
        ...

    def decode_attention_s(self, sequences: int, kv_tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Attention of `sequences` decoding requests that read `kv_tokens` KV tokens together."""
        ...

    def prefill_attention_s(self, chunk: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Attention of one prefill chunk over itself and the `prior` tokens before it."""
        ...


class Watch(Protocol):
    """How a replay tells how far it is, and learns that it should stop."""

    def progress(self, done: int, total: int) -> None:
        """Called a few times a second."""
        ...

    def stopped(self) -> bool:
        """Whether to leave a checkpoint and return."""
        ...


class Engine(Protocol):
    """Executes a trace under a scheduler, simulated or real."""

    def describe(self) -> dict[str, Any]:
        """Its name and limits (blocks, sequences, tokens a step …), as run.json and the report state them."""
        ...

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Replay `trace` (sorted by request_id, which counts from 0) into a run folder; continue where it holds a part.

        Every request gets exactly one row in OUTCOMES. True when finished; False when `watch` said stop.
        """
        ...
