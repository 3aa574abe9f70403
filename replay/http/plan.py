"""From a trace to what each worker sends: its rows in a file, shared out once and for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.http.rows import line

I64 = NDArray[np.int64]
ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Waits:
    """Which turns wait for another request to end: `parent` is -1 where a request arrives by the clock."""

    parent: I64
    think_s: NDArray[np.float64]

    @property
    def by_clock(self) -> NDArray[np.bool_]:
        return self.parent < 0


def waits(trace: pl.DataFrame, *, closed: bool) -> Waits:
    """The turns with a parent and a think time wait for it, where sessions are closed loops."""
    parent = pl.when(pl.col("think_s").is_not_null()).then("parent_id") if closed else pl.lit(None, pl.Int64)
    found = trace.select(parent=parent.cast(pl.Int64).fill_null(-1), think_s=pl.col("think_s").fill_null(0.0))
    return Waits(found["parent"].to_numpy(), found["think_s"].cast(pl.Float64).to_numpy())


def roots(parent: I64) -> I64:
    """For each request the one its chain of waits begins with."""
    found = np.where(parent >= 0, parent, np.arange(len(parent)))
    while (further := found[found]).tolist() != found.tolist():
        found = further
    return found


def rounds(parent: I64) -> list[I64]:
    """Waiting turns by how many others they wait for, the deepest first: so children come before their parents."""
    depth = np.zeros(len(parent), np.int64)
    at = parent.copy()
    while (left := at >= 0).any():
        depth[left] += 1
        at[left] = parent[at[left]]
    return [np.flatnonzero(depth == d) for d in range(int(depth.max(initial=0)), 0, -1)]


def write_plans(
    folder: Path,
    trace: pl.DataFrame,
    waiting: Waits,
    *,
    workers: int,
    route: I64,
    columns: Mapping[str, NDArray[Any]] | None = None,
    answered: Mapping[int, float] | None = None,
    session_blocks: bool = False,
    owner: I64 | None = None,
) -> float:
    """Write `plan-K.jsonl` and `turns-K.jsonl` for each worker; the earliest arrival in them (0 without any).

    `columns` are more of the rows' (replay.http.rows), as a scheduler gave them. `answered` are the requests that need
    not be sent again, with when each ended: its turns arrive by that. `owner` is each request's worker, else chains go
    round.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = answered or {}
    arrival = trace["arrival_s"].cast(pl.Float64).fill_null(0.0).to_numpy().copy()
    parent = waiting.parent.copy()
    for turn in np.flatnonzero(parent >= 0):
        if (ended := done.get(int(parent[turn]))) is not None:
            arrival[turn], parent[turn] = ended + waiting.think_s[turn], -1
    owner = roots(waiting.parent) % workers if owner is None else owner
    left = np.ones(len(trace), bool)
    left[list(done)] = False
    write = _Writer(folder, trace, waiting.think_s, route, columns or {}, session_blocks)
    places: dict[int, list[int]] = {}
    for turns in rounds(parent):
        for k in range(workers):
            write.turns(k, turns[left[turns] & (owner[turns] == k)], parent, places)
    clocked = np.flatnonzero(left & (parent < 0))
    clocked = clocked[np.argsort(arrival[clocked], kind="stable")]
    for k in range(workers):
        write.rows(k, clocked[owner[clocked] == k], arrival, places)
    return float(arrival[clocked[0]]) if clocked.size else 0.0


class _Writer:
    """Turns positions of the trace into lines."""

    def __init__(
        self,
        folder: Path,
        trace: pl.DataFrame,
        think_s: NDArray[np.float64],
        route: I64,
        columns: Mapping[str, NDArray[Any]],
        session_blocks: bool,
    ):
        blocks = pl.col("prefix_blocks")
        self._columns = trace.select(
            id="request_id",
            prompt="prompt_tokens",
            output="output_tokens",
            blocks=blocks,
            text="prompt",
            session=pl.col("session_id").hash() if session_blocks else pl.lit(0, pl.UInt64),
        )
        self._folder, self._think_s, self._route = folder, think_s, route
        self._more = {name: values.tolist() for name, values in columns.items()}

    def rows(self, worker: int, at: I64, arrival: NDArray[np.float64], places: dict[int, list[int]]) -> None:
        with (self._folder / f"plan-{worker}.jsonl").open("wb") as file:
            for start in range(0, len(at), ROWS_AT_ONCE):
                some = at[start : start + ROWS_AT_ONCE]
                file.writelines(line(v | {"arrival_s": float(arrival[n])}) for n, v in self._values(some, places))

    def turns(self, worker: int, at: I64, parent: I64, places: dict[int, list[int]]) -> None:
        with (self._folder / f"turns-{worker}.jsonl").open("ab") as file:
            for start in range(0, len(at), ROWS_AT_ONCE):
                for n, values in self._values(at[start : start + ROWS_AT_ONCE], places):
                    places.setdefault(int(parent[n]), []).append(file.tell())
                    file.write(line(values | {"arrival_s": None, "think_s": float(self._think_s[n])}))

    def _values(self, at: I64, places: dict[int, list[int]]) -> Sequence[tuple[int, dict[str, Any]]]:
        chunk = self._columns[at].iter_rows(named=True)
        return [(int(n), self._row(int(n), values, places)) for n, values in zip(at, chunk, strict=True)]

    def _row(self, n: int, values: dict[str, Any], places: dict[int, list[int]]) -> dict[str, Any]:
        session = values.pop("session")
        if values["blocks"] and session:
            values["blocks"] = [block ^ session for block in values["blocks"]]
        if not values["blocks"] or values["text"] is not None:
            del values["blocks"]
        values |= {name: column[n] for name, column in self._more.items()}
        if route := int(self._route[n]):
            values["route"] = route
        if n in places:
            values["turns"] = places[n]
        return values
