"""How do conversations go on: turns, think times, growth of the prompt."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl

from toolkit.counted import Counted
from toolkit.grouping import Groups, grouped
from toolkit.traces import TraceInfo

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
TURNS_SHOWN = 100

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


class Sessions:
    """How conversations go on: sessions, turns, think times, growth of the prompt."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = (
        *("arrival_s", "session_id", "think_s"),
        *("prompt_tokens", "output_tokens", "source_e2e_s"),
    )
    rows: ClassVar[pl.Expr] = pl.col("session_id").is_not_null()

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        inside = frame.filter(self.rows)
        if not inside.height:
            empty = {"summary": SUMMARY, "turns": TURNS, "think": THINK, "growth": GROWTH}
            return {name: schema.to_frame() for name, schema in empty.items()}
        groups = grouped(inside["session_id"].hash().to_numpy())
        turns, (source, waits) = Counted.of_sorted(np.sort(groups.sizes)), think_times(inside, groups)
        return {
            "summary": summary(turns, source, waits),
            "turns": turn_counts(turns),
            "think": _quantiles(waits),
            "growth": growth(inside, groups),
        }


def think_times(inside: pl.DataFrame, groups: Groups) -> tuple[str | None, Counted]:
    """Waits before the next turn and where they come from; turns sent before the answer ended did not wait."""
    if inside["think_s"].is_not_null().any():
        return "recorded", Counted.of_sorted(np.sort(inside["think_s"].drop_nulls().to_numpy()))
    end_s = inside["arrival_s"] + inside["source_e2e_s"].fill_null(0)
    begins, ends = (column.to_numpy()[groups.order] for column in (inside["arrival_s"], end_s))
    waits = (begins[1:] - ends[:-1])[~groups.first[1:]]
    if not (waits >= 0).any():
        return None, Counted.of_sorted(waits[:0])
    measured = inside["source_e2e_s"].is_not_null().any()
    return "arrival − finish" if measured else "arrival gap", Counted.of_sorted(np.sort(waits[waits >= 0]))


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


def growth(inside: pl.DataFrame, groups: Groups) -> pl.DataFrame:
    """Prompt lengths by turn, and what a turn adds to the one before."""
    prompt, output = (inside[name].to_numpy()[groups.order] for name in ("prompt_tokens", "output_tokens"))
    added = np.where(groups.first, np.nan, np.diff(prompt.astype(np.float64), prepend=0))
    columns = {"turn": groups.place + 1, "prompt": prompt, "output": output, "added": added}
    early = pl.DataFrame(columns, nan_to_null=True).filter(pl.col("turn") <= TURNS_SHOWN)
    table = early.group_by("turn").agg(
        requests=pl.len(),
        prompt_p50=pl.col("prompt").quantile(0.5, "linear"),
        prompt_p90=pl.col("prompt").quantile(0.9, "linear"),
        added_p50=pl.col("added").quantile(0.5, "linear"),
        output_p50=pl.col("output").quantile(0.5, "linear"),
    )
    return table.sort("turn").cast(GROWTH)


def _quantiles(waits: Counted) -> pl.DataFrame:
    if not len(waits.values):
        return THINK.to_frame()
    return pl.DataFrame({"p": QUANTILES, "think_s": waits.quantile(QUANTILES)}, schema=THINK)
