"""One run as the report reads it: the columns it needs, the metrics of requests that completed, blocks of time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure, printable
from toolkit.metrics import LATENCIES, SEND_LAG
from toolkit.runs import Run
from toolkit.telling_apart import told_apart

COLUMNS = (
    "request_id", "model", "tenant", "tier", "engine", "arrival_s", "sent_s", "start_s", "first_token_s", "finish_s",
    "prompt_tokens", "cached_tokens", "output_tokens", "preemptions", "preempted_s", "alone_s",
    "slo_ttft_s", "slo_tpot_s", "status", "warm_up",
)  # fmt: skip
GROUPS = ("model", "tenant", "tier", "input_length")
LENGTH_EDGES = (128, 512, 2_048, 8_192, 32_768)
BLOCKS = 60  # of consecutive requests, what the bootstrap draws
MIN_BLOCK = 4  # requests; below 60 × 4 there are fewer blocks
LABEL_LENGTH = 40


@dataclass(frozen=True)
class Measured:
    """`frame` is sorted by request_id: COLUMNS and GROUPS (as categories), and LATENCIES, null unless completed."""

    run: Run
    label: str  # printable, unique among the runs of a page, at most LABEL_LENGTH characters
    frame: pl.DataFrame
    timeline: pl.DataFrame
    events: pl.DataFrame
    sensitivity: pl.DataFrame  # no rows where the run was not replayed with other step times
    warm_up: int = 0  # requests that are left out of `frame`

    @property
    def info(self) -> dict[str, Any]:
        return self.run.info

    def values(self, metric: str) -> NDArray[np.float64]:
        """One value a request, NaN where undefined."""
        return self.frame[metric].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def defined(self, metric: str) -> NDArray[np.float64]:
        """The defined values, sorted."""
        return self.frame[metric].drop_nulls().drop_nans().sort().to_numpy()

    def block_of(self) -> NDArray[np.int64]:
        """Which block of consecutive requests each request is in."""
        blocks = max(1, min(BLOCKS, self.frame.height // MIN_BLOCK))
        return np.arange(self.frame.height, dtype=np.int64) * blocks // max(1, self.frame.height)

    @property
    def span_s(self) -> float | None:
        """From the first arrival to the last finish (or arrival)."""
        ends = [self.frame[c].max() for c in ("arrival_s", "finish_s")]
        known = [float(e) for e in ends if isinstance(e, float)]
        start = self.frame["arrival_s"].min()
        return max(known) - start if known and isinstance(start, float) else None


def measure(run: Run, label: str) -> Measured:
    """Read what the report needs of `run`. Raises InputFailure where it has no outcomes."""
    frame = run.table("outcomes").select(COLUMNS).collect(engine="streaming")
    offered = frame.height
    frame = frame.filter(pl.col("warm_up").not_().fill_null(True)).drop("warm_up")
    if offered and frame.is_empty():
        hint = "replay it with a shorter --warm-up, or leave it out"
        raise InputFailure("every request of the run was warm-up", where=str(run.path), hint=hint)
    if frame.is_empty():
        raise InputFailure("the run has no outcomes yet", where=str(run.path), hint="resume it or leave it out")
    if not frame["request_id"].is_sorted():
        frame = frame.sort("request_id")
    completed = pl.col("status") == "ok"
    latencies = [pl.when(completed).then(e).alias(name) for name, e in (LATENCIES | {"send_lag_s": SEND_LAG}).items()]
    frame = frame.with_columns(
        pl.col("model", "tenant", "tier", "engine", "status").cast(pl.Categorical), *latencies, input_length(frame)
    )
    timeline, events, sensitivity = (run.table(name).collect() for name in ("timeline", "events", "sensitivity"))
    return Measured(run, label, frame, timeline, events, sensitivity, offered - frame.height)


def input_length(frame: pl.DataFrame) -> pl.Series:
    """The input length as a group: `< 128`, `128 to 511`, …"""
    middle = [f"{low} to {high - 1}" for low, high in pairwise(LENGTH_EDGES)]
    names = [f"< {LENGTH_EDGES[0]}", *middle, f"≥ {LENGTH_EDGES[-1]}"]
    tokens = frame["prompt_tokens"]
    place = np.searchsorted(LENGTH_EDGES, tokens.fill_null(0).to_numpy(), side="right")
    place[tokens.is_null().to_numpy()] = len(names)
    return pl.Series("input_length", [*names, None], dtype=pl.Enum(names))[place]


def measure_all(runs: Sequence[Run]) -> list[Measured]:
    return [measure(run, label) for run, label in zip(runs, labels(runs), strict=True)]


def labels(runs: Sequence[Run]) -> list[str]:
    """A short printable name for each run; equal names tell their engines where these differ, else their folders."""
    short = [clipped(run.name) for run in runs]
    engines = [str((run.info.get("engine") or {}).get("name") or "") for run in runs]
    kinds = {name: {e for n, e in zip(short, engines, strict=True) if n == name} for name in short}
    told = [
        f"{clipped(name, LABEL_LENGTH // 2)}, {clipped(engine, LABEL_LENGTH // 2 - 2)}"
        if len(kinds[name]) > 1 and engine
        else name
        for name, engine in zip(short, engines, strict=True)
    ]
    apart = told_apart(told, [printable(str(run.path.resolve())) for run in runs])
    return _numbered([name if name == own else _end(name) for name, own in zip(apart, told, strict=True)])


def _end(path: str) -> str:
    return path if len(path) <= LABEL_LENGTH else "…" + path[1 - LABEL_LENGTH :]


def _numbered(names: Sequence[str]) -> list[str]:
    """Names that are still alike, such as long ones with the same end, are numbered."""
    total, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{clipped(name, LABEL_LENGTH - 4)} ({seen[name]})" if total[name] > 1 else name)
    return found


def clipped(text: str, length: int = LABEL_LENGTH) -> str:
    """`text` on one line, control and direction marks escaped, at most `length` characters."""
    shown = printable(text)
    return shown if len(shown) <= length else shown[: length - 1] + "…"
