"""How do conversations go on: turns, think times, growth of the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from toolkit.analysis.samples import Floats, Sample, is_exact
from toolkit.analysis.whole import Whole
from toolkit.counted import Counted
from toolkit.grouping import SPREAD, Groups, grouped
from toolkit.traces import TraceInfo

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
TURNS_SHOWN = 100
GROWING = ("prompt", "added", "output")

_f, _i = pl.Float64(), pl.Int64()
SUMMARY = pl.Schema(
    {
        "sessions": _i,
        "requests": _i,
        "turns_mean": _f,
        "turns_p50": _f,
        "turns_p90": _f,
        "turns_p99": _f,
        "max_turns": _i,
        "single_turn_share": _f,
        "think_source": pl.String(),
        "think_mean_s": _f,
        "think_p50_s": _f,
        "think_p90_s": _f,
        "think_p99_s": _f,
    }
)
TURNS = pl.Schema({"turns": _i, "sessions": _i, "share": _f})
THINK = pl.Schema({"p": _f, "think_s": _f})
GROWTH = pl.Schema({"turn": _i, "requests": _i, "prompt_p50": _f, "prompt_p90": _f, "added_p50": _f, "output_p50": _f})


@dataclass(frozen=True)
class Talks:
    """What is found in whole sessions: turns a session, waits before turns, and how often each length has each turn."""

    turns: Counted
    recorded: Sample  # waits as the source says them
    waited: Sample  # waits by arrivals; not looked at where any was recorded
    measured: bool  # whether any arrival's wait is since a measured end
    lengths: pl.DataFrame  # turn, column of GROWING, tokens, requests; of the first turns


class Sessions:
    """How conversations go on: sessions, turns, think times, growth of the prompt."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = (
        *("arrival_s", "session_id", "think_s"),
        *("prompt_tokens", "output_tokens", "source_e2e_s"),
    )
    about: ClassVar[str] = "session_id"

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        whole = Whole.of(frame, info)
        return self.finish([self.partial(rows, whole) for rows in self.shares(frame, whole, 1)], whole)

    def shares(self, frame: pl.DataFrame, whole: Whole, n: int) -> list[pl.DataFrame]:
        """What is asked of rows with a session, those of a session in the same of `n` frames."""
        known = frame["session_id"].null_count() < frame.height
        inside = frame.filter(pl.col("session_id").is_not_null()) if known else frame.clear()
        rows = inside.select(
            inside["session_id"].hash().alias("session"),
            *("arrival_s", "think_s"),
            (pl.col("arrival_s") + pl.col("source_e2e_s").fill_null(0)).alias("end_s"),
            pl.col("source_e2e_s").is_not_null().alias("measured"),
            *("prompt_tokens", "output_tokens"),
        )
        if n == 1:
            return [rows]
        share = (rows["session"].to_numpy() * SPREAD >> np.uint64(32)) % np.uint64(n)
        return [rows.filter(share == place) for place in range(n)]

    def partial(self, rows: pl.DataFrame, whole: Whole) -> Talks | None:
        """What whole sessions hold; null where there are none."""
        if not rows.height:
            return None
        groups, exact = grouped(rows["session"].to_numpy()), is_exact(whole)
        recorded = Sample.of(rows["think_s"].drop_nulls().to_numpy(), exact=exact)
        waits = arrival_waits(rows, groups) if not recorded.counted.n else np.zeros(0)
        turns = Counted.of_sorted(np.sort(groups.sizes))
        waited, measured = Sample.of(waits, exact=exact), bool(rows["measured"].any())
        return Talks(turns, recorded, waited, measured, lengths_by_turn(rows, groups))

    def finish(self, parts: Sequence[Talks | None], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all sessions."""
        known = [part for part in parts if part]
        if not known:
            empty = {"summary": SUMMARY, "turns": TURNS, "think": THINK, "growth": GROWTH}
            return {name: schema.to_frame() for name, schema in empty.items()}
        turns, (source, waits) = Counted.merged([part.turns for part in known]), think_times(known)
        return {
            "summary": summary(turns, source, waits),
            "turns": turn_counts(turns),
            "think": _quantiles(waits),
            "growth": growth(pl.concat([part.lengths for part in known])),
        }


def arrival_waits(rows: pl.DataFrame, groups: Groups) -> Floats:
    """From the end of a turn to the arrival of the next; turns sent before the answer ended did not wait."""
    begins, ends = (rows[name].to_numpy()[groups.order] for name in ("arrival_s", "end_s"))
    waits: Floats = (begins[1:] - ends[:-1])[~groups.first[1:]]
    return waits[waits >= 0]


def think_times(parts: Sequence[Talks]) -> tuple[str | None, Counted]:
    """Waits before the next turn and where they come from."""
    recorded = Sample.merged([part.recorded for part in parts]).counted
    if recorded.n:
        return "recorded", recorded
    waited = Sample.merged([part.waited for part in parts]).counted
    if not waited.n:
        return None, waited
    return "arrival − finish" if any(part.measured for part in parts) else "arrival gap", waited


def summary(turns: Counted, source: str | None, waits: Counted) -> pl.DataFrame:
    """One row."""
    p50, p90, p99 = turns.quantile([0.5, 0.9, 0.99])
    row = {
        "sessions": turns.n,
        "requests": int(turns.values @ turns.counts),
        "turns_mean": turns.mean,
        "turns_p50": p50,
        "turns_p90": p90,
        "turns_p99": p99,
        "max_turns": int(turns.values[-1]),
        "single_turn_share": float(turns.counts[0] / turns.n) if turns.values[0] == 1 else 0.0,
        "think_source": source,
    }
    if source:
        p50, p90, p99 = waits.quantile([0.5, 0.9, 0.99])
        row |= {"think_mean_s": waits.mean, "think_p50_s": p50, "think_p90_s": p90, "think_p99_s": p99}
    return pl.DataFrame([row], schema=SUMMARY)


def turn_counts(turns: Counted) -> pl.DataFrame:
    """How many sessions have one turn, two turns, …"""
    columns = {"turns": turns.values.astype(np.int64), "sessions": turns.counts, "share": turns.counts / turns.n}
    return pl.DataFrame(columns, schema=TURNS)


def lengths_by_turn(rows: pl.DataFrame, groups: Groups) -> pl.DataFrame:
    """How many requests have each length in each of the first turns; null where a length is unknown."""
    prompt, output = (rows[name].gather(groups.order) for name in ("prompt_tokens", "output_tokens"))
    first = pl.Series(groups.first)
    added = (prompt.cast(_i) - prompt.cast(_i).shift()).set(first, None)
    columns = {"turn": groups.place + 1, "prompt": prompt.cast(_i), "added": added, "output": output.cast(_i)}
    early = pl.DataFrame(columns).filter(pl.col("turn") <= TURNS_SHOWN)
    counted = [
        early.group_by("turn", pl.col(name).alias("tokens")).len("requests").with_columns(column=pl.lit(name))
        for name in GROWING
    ]
    return pl.concat(counted).with_columns(pl.col("turn", "requests").cast(_i))


def growth(lengths: pl.DataFrame) -> pl.DataFrame:
    """Prompt lengths by turn, and what a turn adds to the one before."""
    summed = lengths.group_by("turn", "column", "tokens").agg(pl.col("requests").sum()).sort("turn", "column", "tokens")
    rows = []
    for (turn,), own in summed.group_by("turn", maintain_order=True):
        of = {str(name): table for (name,), table in own.group_by("column")}
        prompt, added, output = (_lengths(of[name]) for name in GROWING)
        points = (_at(prompt, 0.5), _at(prompt, 0.9), _at(added, 0.5), _at(output, 0.5))
        rows.append((turn, int(of["prompt"]["requests"].sum()), *points))
    return pl.DataFrame(rows, schema=GROWTH, orient="row")


def _lengths(table: pl.DataFrame) -> Counted:
    known = table.drop_nulls("tokens")
    return Counted(known["tokens"].cast(_f).to_numpy(), known["requests"].to_numpy())


def _at(sample: Counted, q: float) -> float | None:
    return float(sample.quantile(q)) if sample.n else None


def _quantiles(waits: Counted) -> pl.DataFrame:
    if not len(waits.values):
        return THINK.to_frame()
    return pl.DataFrame({"p": QUANTILES, "think_s": waits.quantile(QUANTILES)}, schema=THINK)
