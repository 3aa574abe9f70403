"""`trace replay --explain`: when and why one request ran, waited or lost its place, as lines to read."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from replay.simulation import notes
from replay.simulation.state import FINISHED, I64, NONE, PS
from toolkit.errors import SettingFailure, printable

WHY = {
    notes.NO_PLACE: "first in line, but max_num_seqs requests run",
    notes.NO_MEMORY: "first in line, but its prompt does not fit into the free KV blocks",
    notes.NO_TOKENS: "first in line, but the step's token budget is used up",
    notes.AFTER_PREEMPTION: "first in line, but somebody has just lost its place for want of KV blocks",
}


def checked_request(trace: pl.DataFrame, request: int) -> int:
    """`request`, or SettingFailure where the trace has none of that number."""
    if not 0 <= request < len(trace):
        raise SettingFailure(f"no request {request}", where="--explain", hint=f"0 to {len(trace) - 1}")
    return request


def story(trace: pl.DataFrame, request: int, rows: I64) -> Iterator[str]:
    """The lines of what `rows` (State.note) say of `request`."""
    row = trace.row(request, named=True)
    known = [f"{name} {printable(row[name])}" for name in ("model", "tenant", "tier") if row[name] is not None]
    lengths = f"{row['prompt_tokens']} prompt and {row['output_tokens']} output tokens"
    yield f"request {request}: {', '.join([*known, lengths])}"
    for first, last, ends in _runs(rows):
        yield f"  {first[0] / PS:12.3f} s  {_said(first, last, (ends - first[0]) / PS, rows[0, 0])}"


def _runs(rows: I64) -> Iterator[tuple[I64, I64, int]]:
    """(First row, last row, when the next begins) of each stretch of waiting for one reason, and of every other row."""
    begins = np.ones(len(rows), bool)
    waits = rows[:, 1] == notes.WAITS
    begins[1:] = ~(waits[1:] & waits[:-1] & (rows[1:, 2] == rows[:-1, 2]))
    starts = np.flatnonzero(begins)
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield rows[start], rows[end - 1], int(rows[min(end, len(rows) - 1), 0])


def _said(first: I64, last: I64, lasts_s: float, arrival: int) -> str:
    what, a, b = first[1], first[2], int(first[3])
    if what == notes.WAITS:
        return f"waits {lasts_s:.3f} s: {_behind(b, int(last[3])) if a == notes.BEHIND else WHY[a]}"
    if what == notes.PREEMPTED:
        cause = "for want of KV blocks" if b == NONE else f"to request {b}"
        return f"loses its place {cause}, with {a} tokens of context"
    if what == notes.STARTED:
        late = ", after its patience ended" if b else ""
        return f"gets a place, {a} tokens of its context being there already{late}"
    if what == notes.ENDED:
        return f"ends, {(int(first[0]) - arrival) / PS:.3f} s after its arrival" if a == FINISHED else "is rejected"
    return {
        notes.ARRIVED: f"arrives at instance {a}",
        notes.FIRST_TOKEN: "has its first token",
        notes.BOUNDARY: f"has {a} output tokens: its rank or its hold on its place changes",
        notes.TURNED: "has waited so long that its rank changes",
    }[what]


def _behind(first: int, last: int) -> str:
    return f"{first} rank before it" if first == last else f"{first} rank before it at first, {last} at last"
