"""What a plugin must do. No base classes: a class that has these members is a plugin.

The first line of a plugin's docstring is its summary in `trace plugins`; the keyword arguments of its `__init__` are
its parameters on the command line (`NAME:key=value`).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.whole import Whole
from toolkit.runs import RunWriter
from toolkit.traces import Trace, TraceInfo


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
    restored: Trace | None = None  # the source is a trace already


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
    what is absent or null. It may be asked once. `truth` has TRUTH's columns, those that it needs. `names` are all the
    models and tenants that its requests bear; where a column is absent nobody knows.
    """

    requests: Callable[[Iterable[float]], Iterator[pl.DataFrame]]
    truth: pl.DataFrame
    notes: tuple[str, ...] = ()
    names: Mapping[str, Collection[str]] = field(default_factory=dict)


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


class Mergeable(Analysis, Protocol):
    """An analysis that can be asked about parts of a trace; `finish([partial(all)])` is what `run` says.

    One that must know of all parts before it can say everything looks twice: `told(parts, whole)` says what the second
    look has to know, as `whole.seen`, and `second(rows, whole)` is asked about what `again(frame)` keeps of a part;
    `finish` is given pairs of what both looks found. What a part holds may be large where there is
    `joined(earlier, later)`, which says what two parts hold together; `finish` is given that of all. With
    `shares(frame, whole, n)`, a part's rows as n frames, so that rows which belong together are in the frame of the
    same place in every part, `partial` is asked about all rows of a place, in order of time.

    One that is asked about all rows at once may say with `about` which column they must know to mean anything to it.
    """

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Any:
        """What a part holds, small beside the part; it can be pickled."""
        ...

    def finish(self, parts: Sequence[Any], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time: to the last bit what they are of the trace in one piece."""
        ...


@dataclass(frozen=True)
class Curve:
    """How a request's rank moves as it is served; all of it runs compiled.

    rank(served) = rank(0) + slope·served + offsets[i], where i counts the boundaries that are ≤ the work done. Work is
    in output tokens: those served, or at least `prompt_work` for each prompt token that the cache did not have when the
    request arrived. `offsets` has one entry more than `boundaries`; or a row of them for each kind of request, chosen
    by the scheduler's `curve_row`.
    """

    slope: float = 0.0
    boundaries: Sequence[int] = ()
    offsets: Sequence[float] | NDArray[np.float64] = (0.0,)
    prompt_work: float = 0.0


@dataclass(frozen=True)
class Preemption:
    """When a running request may lose its place, and which one.

    `memory`: only when KV blocks run out. `rank`: also when a waiting request ranks before it by more than
    `hysteresis`. The victim is the running request that ranks last, each token of its context (which has to be brought
    back) making it rank `context_cost` earlier; or the `latest` to start.
    A request is not displaced by rank, and loses its place to nobody while there is another: once it has produced
    `hold_share` of the output that its scheduler `predicted`, or else of its own (TRAIL's no-swap-out share; 1 never
    holds), and with `min_run` from when it gets a place
    to the next boundary of its curve (UniBoost's MemGuard).
    """

    when: Literal["memory", "rank"] = "memory"
    hold_share: float = 1.0
    min_run: bool = False
    hysteresis: float = 0.0
    context_cost: float = 0.0
    victim: Literal["rank", "latest"] = "rank"


@dataclass(frozen=True)
class Patience:
    """How a waiting request's rank changes with time: by `shift`, once `after_s` have passed (numbers, or one each).

    Counted since its `arrival`, once and for good; or since it last lost its `place` or arrived, and then until it has
    one again, which it keeps for `hold_tokens` output tokens. Infinity never comes. A shift is below 1e17 in size.
    """

    after_s: float | NDArray[np.float64]
    shift: float | NDArray[np.float64]
    since: Literal["arrival", "place"] = "arrival"
    hold_tokens: int = 0


@dataclass(frozen=True)
class Lanes:
    """Several queues, in each of which ranks decide; a request's is what the scheduler's `lane` says.

    They take turns as in `cycle` (lane numbers; an empty lane's turn is skipped); or, without one, the lane that has
    had the least service is next, a prompt token being `prompt_weight` of it and an output token `output_weight`.
    """

    cycle: Sequence[int] = ()
    prompt_weight: float = 1.0
    output_weight: float = 2.0


@dataclass(frozen=True)
class ServiceCosts:
    """What service takes of one engine when it is full, in seconds: so that tokens become time, and never mix with it.

    A token's cost is its share of a full step, so a request's costs add up to what it takes of the engine for itself.
    """

    prefill_s_per_token: float
    decode_s_per_token: float
    step_s: float  # a full decode step: what a running request waits for its next token
    restore_s_per_token: float  # to bring a preempted request's context back
    models: "Mapping[str, ServiceCosts]" = field(default_factory=dict)  # by the trace's model, where several are served


class Waiting(Protocol):
    """The requests that wait at one engine, by rank."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column of TRACE as an array (texts as small integers in alphabetical order, null -1), or `served`:
        the output tokens each has produced so far.
        """
        ...


class Scheduler(Protocol):
    """Orders requests at one engine.

    Optional members, looked up by name. The first run compiled:
    - `curve: Curve` (default: a rank never moves) and `curve_row(requests) -> int[n]` (default: all 0);
    - `preemption: Preemption` (default: memory pressure only);
    - `patience(requests) -> Patience` (default: time changes no rank);
    - `lanes: Lanes` and `lane(requests) -> int[n]`, from 0 (default: one queue).
    It may be told of the engine, once and before anything is asked: `serve_on(costs: ServiceCosts)`.
    These are asked at decision points, and may keep a memory:
    - `observe(outcomes, now_s) -> bool | None`, called every `observe_every_s` seconds of the replay with what ended
      since the last call, if anything did (OUTCOMES' times, lengths, preemptions and status); then `rank` is asked
      again for everything that waits, runs or may arrive before the next call, and the curve for its offsets. Where it
      returns False, only for what has arrived since and what may arrive;
    - `order(waiting: Waiting, now_s) -> permutation`, called when somebody could be admitted from a queue that has
      changed: the positions of the waiting, first to run first. With `window`, an int, only so many that rank first are
      asked about, and the others come after. Ranks else only tell who loses its place;
    - `predicted(request_ids) -> float64[n]`, the output tokens it expected of them, NaN for none: OUTCOMES has them.
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
