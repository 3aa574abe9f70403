"""What every scheduler must do (toolkit.protocols.Scheduler), as functions that raise AssertionError."""

import copy
import re
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.protocols import Curve, Lanes, Patience, Preemption, ServiceCosts
from toolkit.runs import Run, RunWriter
from toolkit.schema import TRACE, conform
from toolkit.traces import TraceInfo

COSTS = ServiceCosts(prefill_s_per_token=5e-5, decode_s_per_token=2e-4, step_s=0.02, restore_s_per_token=5e-5)
LARGEST_SHIFT = 1e17
Values = NDArray[np.float64]


def check_scheduler(spec: str) -> None:
    """Hold a scheduler to its contract: `NAME[:key=value,…]` when it is registered, else `FILE.py:CLASS[:…]`.

    A trace that has arrivals and lengths only may be refused with a SettingFailure; every other is replayed.
    """
    check_documentation(spec)
    for shape, trace in small_traces().items():
        try:
            check_answers(spec, trace, f"{spec}, {shape} trace")
            check_replay(spec, trace, f"{spec}, {shape} trace")
        except SettingFailure:
            assert shape == "bare", f"{spec}: refuses the {shape} trace"


def check_documentation(spec: str, kind: str = "scheduler") -> None:
    """A summary, and a word on every parameter, in the docstring of the class or of one it extends."""
    made = plugins.load(kind, plugins.split_spec(spec)[0])
    assert plugins.summary(made), f"{spec}: no docstring; its first line is shown by `trace plugins`"
    text = " ".join(base.__doc__ or "" for base in made.__mro__[:-1])
    silent = [name for name in plugins.parameters(made) if not re.search(rf"\b{name}\b", text)]
    assert not silent, f"{spec}: the docstring says nothing of {', '.join(silent)}"


def check_answers(spec: str, trace: pl.DataFrame, where: str) -> None:
    """Ranks, and whatever else the scheduler says of requests: well formed, the same again, and of each by itself."""
    scheduler, other = _asked(spec), _asked(spec)
    ranks = _ranks(scheduler, trace, where)
    assert np.array_equal(ranks, _ranks(other, trace, where)), f"{where}: two instances rank differently"
    assert np.array_equal(ranks, _ranks(copy.deepcopy(scheduler), trace, where)), f"{where}: a copy ranks differently"
    for first in range(min(5, len(trace))):  # the tiers of small_traces come by fives
        few = np.arange(len(trace))[first::5][::-1]
        assert np.array_equal(ranks[few], _ranks(scheduler, trace[few], where)), (
            f"{where}: a rank depends on the others"
        )
    _check_data(scheduler, trace, where)
    if hasattr(scheduler, "observe"):
        assert scheduler.observe_every_s > 0, f"{where}: observe_every_s is not above 0"
    if hasattr(scheduler, "order"):
        order = np.asarray(scheduler.order(_Waiting(trace), float(trace["arrival_s"].max() or 0.0)))  # type: ignore[arg-type]
        assert sorted(order.tolist()) == list(range(len(trace))), f"{where}: order() gives no permutation"
    if hasattr(scheduler, "predicted"):
        predicted = np.asarray(scheduler.predicted(trace["request_id"].to_numpy()), np.float64)
        assert predicted.shape == (len(trace),), f"{where}: predicted() gives shape {predicted.shape}"


def check_replay(spec: str, trace: pl.DataFrame, where: str) -> None:
    """One outcome a request, the same twice; and ranks that stay ranks once those have been observed."""
    outcomes = _replayed(spec, trace)
    assert outcomes["request_id"].to_list() == list(range(len(trace))), f"{where}: not one outcome a request"
    assert outcomes["status"].to_list() == ["ok"] * len(trace), f"{where}: requests are left unserved"
    assert outcomes["output_tokens"].equals(trace["output_tokens"]), f"{where}: tokens are not those asked for"
    assert outcomes.equals(_replayed(spec, trace)), f"{where}: two replays differ"
    scheduler = _asked(spec)
    if not hasattr(scheduler, "observe"):
        return
    _ranks(scheduler, trace, where)
    shape = np.shape(getattr(scheduler, "curve", Curve()).offsets)
    ended = outcomes[: max(1, len(outcomes) // 2)]
    now_s = float(ended["finish_s"].max())  # type: ignore[arg-type]
    scheduler.observe(ended, now_s)
    _ranks(scheduler, trace[len(ended) :], where, now_s)
    assert np.shape(getattr(scheduler, "curve", Curve()).offsets) == shape, f"{where}: observe() changes the boundaries"


def _asked(spec: str) -> Any:
    """A new instance that has been told of an engine."""
    scheduler = plugins.create("scheduler", spec)
    if hasattr(scheduler, "serve_on"):
        scheduler.serve_on(COSTS)
    return scheduler


def _ranks(scheduler: Any, trace: pl.DataFrame, where: str, now_s: float = 0.0) -> Values:
    ranks = np.array(scheduler.rank(trace, now_s), np.float64)
    assert ranks.shape == (len(trace),), f"{where}: rank() gives shape {ranks.shape} for {len(trace)} requests"
    assert not np.isnan(ranks).any(), f"{where}: a rank is not a number"
    return ranks


def _check_data(scheduler: Any, trace: pl.DataFrame, where: str) -> None:
    """What a scheduler says as data; asked after `rank`, as engines do."""
    curve, preemption = getattr(scheduler, "curve", Curve()), getattr(scheduler, "preemption", Preemption())
    _check_curve(curve, where)
    _check_preemption(preemption, where)
    rows = len(np.atleast_2d(np.asarray(curve.offsets)))
    _check_numbers(scheduler, "curve_row", trace, rows, where)
    lanes = getattr(scheduler, "lanes", None)
    if lanes is not None:
        assert isinstance(lanes, Lanes), f"{where}: lanes is a {type(lanes).__name__}"
        assert min(lanes.prompt_weight, lanes.output_weight, *lanes.cycle) >= 0, f"{where}: {lanes}"
        _check_numbers(scheduler, "lane", trace, 2**31, where)
    if hasattr(scheduler, "patience"):
        _check_patience(scheduler.patience(trace), len(trace), where)


def _check_curve(curve: Curve, where: str) -> None:
    boundaries, offsets = np.array(curve.boundaries), np.atleast_2d(np.array(curve.offsets, np.float64))
    assert offsets.ndim == 2, f"{where}: offsets are neither a row nor rows"
    assert offsets.shape[1] == len(boundaries) + 1, f"{where}: {len(boundaries)} boundaries need one offset more"
    assert not np.isnan(offsets).any(), f"{where}: an offset is not a number"
    whole = not len(boundaries) or np.issubdtype(boundaries.dtype, np.integer)
    assert whole, f"{where}: boundaries are not whole"
    assert (np.diff(boundaries, prepend=0) > 0).all(), f"{where}: boundaries do not rise from 1"
    assert np.isfinite(curve.slope), f"{where}: slope {curve.slope}"
    assert 0 <= curve.prompt_work < np.inf, f"{where}: prompt_work {curve.prompt_work}"


def _check_preemption(rule: Preemption, where: str) -> None:
    assert rule.when in ("memory", "rank"), f"{where}: preempts when {rule.when!r}"
    assert rule.victim in ("rank", "latest"), f"{where}: the victim is {rule.victim!r}"
    assert rule.when == "memory" or rule.victim == "rank", f"{where}: displaces by rank, but takes the latest"
    assert 0 < rule.hold_share <= 1, f"{where}: hold_share {rule.hold_share}"
    assert min(rule.hysteresis, rule.context_cost) >= 0, f"{where}: {rule}"


def _check_patience(patience: Patience, requests: int, where: str) -> None:
    for value in (patience.after_s, patience.shift):
        assert np.shape(value) in ((), (requests,)), f"{where}: patience is neither a number nor one each"
    assert (np.asarray(patience.after_s) >= 0).all(), f"{where}: patience ends before it begins"
    assert (np.abs(patience.shift) < LARGEST_SHIFT).all(), f"{where}: a shift is too large to be added to a rank"
    assert patience.since in ("arrival", "place"), f"{where}: patience since {patience.since!r}"
    assert patience.hold_tokens >= 0, f"{where}: hold_tokens {patience.hold_tokens}"


def _check_numbers(scheduler: Any, name: str, trace: pl.DataFrame, below: int, where: str) -> None:
    """An optional method that numbers requests: whole, from 0, below a bound."""
    if not hasattr(scheduler, name):
        return
    numbers = np.array(getattr(scheduler, name)(trace))
    assert numbers.shape == (len(trace),), f"{where}: {name}() gives shape {numbers.shape}"
    assert np.issubdtype(numbers.dtype, np.integer), f"{where}: {name}() gives {numbers.dtype}"
    assert ((numbers >= 0) & (numbers < below)).all(), f"{where}: {name}() gives {numbers.min()} to {numbers.max()}"


def _replayed(spec: str, trace: pl.DataFrame) -> pl.DataFrame:
    """OUTCOMES of a replay on a simulated engine so small that requests wait and lose their places."""
    engine_class = plugins.load("engine", "simulated")
    limits_class = get_type_hints(engine_class.__init__)["limits"]  # the ground floor imports no other package
    limits = limits_class(kv_blocks=40, max_num_seqs=3, max_num_batched_tokens=64, max_model_len=1024)
    engine = engine_class(_Steps(), limits, band=False)
    info = TraceInfo("contract", "contract", "", len(trace), len(trace), span_s=float(trace["arrival_s"].max()))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter(Path(folder), {"run_id": "contract"})
        assert engine.replay(trace, info, plugins.create("scheduler", spec), writer, _Unwatched())
        return Run.open(Path(folder)).table("outcomes").sort("request_id").collect()


def small_traces() -> dict[str, pl.DataFrame]:
    """Traces by their shape: of all columns, of arrivals and lengths only, of one request, of equal arrivals."""
    numbers = pl.int_range(30, eager=True)
    lengths = {"prompt_tokens": 1 + numbers * 37 % 200, "output_tokens": 1 + numbers * 13 % 60}
    bare = pl.DataFrame({"arrival_s": numbers * 0.3, **lengths})
    full = bare.with_columns(
        model=pl.Series([f"m{n % 2}" for n in numbers]),
        tenant=pl.Series([("a", "b", None)[n % 3] for n in numbers]),
        tier=pl.Series([("premium", "standard", "batch", "other", None)[n % 5] for n in numbers]),
        kind=pl.Series([("summary", None, "chat")[n % 3] for n in numbers]),
        parent_id=pl.Series([n - 4 if n % 7 == 6 else None for n in numbers]),
        think_s=pl.Series([0.5 if n % 7 == 6 else None for n in numbers]),
        predicted_output_tokens=lengths["output_tokens"] + 3,
        slo_ttft_s=pl.Series([(0.2, 2.0, None)[n % 3] for n in numbers]),
    )
    shapes = {"full": full, "bare": bare, "one-request": full[:1], "at-once": full.with_columns(arrival_s=pl.lit(1.0))}
    return {name: conform(_numbered(frame), TRACE, source=name) for name, frame in shapes.items()}


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_row_index("request_id")


class _Waiting:
    """All requests of a trace as those that wait, by arrival (toolkit.protocols.Waiting)."""

    def __init__(self, trace: pl.DataFrame):
        self._trace = trace

    def __len__(self) -> int:
        return len(self._trace)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name == "served":
            return np.zeros(len(self), np.int64)
        column = self._trace[name]
        if column.dtype == pl.String:
            column = column.rank("dense").cast(pl.Int64).fill_null(0) - 1
        return column.to_numpy()


class _Steps:
    """10 ms a step and 0.2 ms a token (toolkit.protocols.LatencyModel)."""

    def dense_s(self, tokens: Values) -> Values:
        return 0.01 + 0.0002 * tokens

    def head_s(self, sequences: Values) -> Values:
        return 0.0 * sequences

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return 1e-7 * kv_tokens

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return 1e-7 * (chunk + prior)


class _Unwatched:
    """Never stops a replay."""

    def progress(self, done: int, total: int) -> None: ...

    def stopped(self) -> bool:
        return False
