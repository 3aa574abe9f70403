"""How do conversations go on: turns, think times, growth of the prompt."""

from typing import ClassVar, Literal

import polars as pl

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

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        inside = frame.filter(pl.col("session_id").is_not_null())
        if not inside.height:
            empty = {"summary": SUMMARY, "turns": TURNS, "think": THINK, "growth": GROWTH}
            return {name: schema.to_frame() for name, schema in empty.items()}
        followed = follow(inside)
        turns = inside.group_by("session_id").len()["len"]
        source, waits = think_times(followed)
        return {
            "summary": summary(turns, source, waits),
            "turns": turn_counts(turns),
            "think": _quantiles(waits),
            "growth": growth(followed),
        }


def follow(inside: pl.DataFrame) -> pl.DataFrame:
    """Each request with its place in its session and its difference from the request before."""
    before = pl.col("arrival_s") + pl.col("source_e2e_s").fill_null(0)
    return inside.with_columns(
        turn=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("session_id"),
        gap_s=(pl.col("arrival_s") - before.shift()).over("session_id"),
        added=(pl.col("prompt_tokens") - pl.col("prompt_tokens").shift()).over("session_id"),
    )


def think_times(followed: pl.DataFrame) -> tuple[str | None, pl.Series]:
    """Waits before the next turn and where they come from; turns sent before the answer ended did not wait."""
    if followed["think_s"].is_not_null().any():
        return "recorded", followed["think_s"].drop_nulls()
    waits = followed["gap_s"].drop_nulls()
    if not len(waits):
        return None, waits
    measured = followed["source_e2e_s"].is_not_null().any()
    return "arrival − finish" if measured else "arrival gap", waits.filter(waits >= 0)


def summary(turns: pl.Series, source: str | None, waits: pl.Series) -> pl.DataFrame:
    """One row."""
    row: dict[str, object] = {"sessions": len(turns), "requests": turns.sum(), "turns_mean": turns.mean()}
    row |= {f"turns_{label}": turns.quantile(q, "linear") for label, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    row |= {"max_turns": turns.max(), "single_turn_share": (turns == 1).mean(), "think_source": source}
    row |= {"think_mean_s": waits.mean()}
    row |= {f"think_{label}_s": waits.quantile(q, "linear") for label, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return pl.DataFrame([row], schema=SUMMARY)


def turn_counts(turns: pl.Series) -> pl.DataFrame:
    """How many sessions have one turn, two turns, …"""
    counted = turns.value_counts().select(turns=pl.col("len"), sessions="count").sort("turns")
    return counted.with_columns(share=pl.col("sessions") / len(turns)).cast(TURNS)


def growth(followed: pl.DataFrame) -> pl.DataFrame:
    """Prompt lengths by turn, and what a turn adds to the one before."""
    table = followed.filter(pl.col("turn") <= TURNS_SHOWN).group_by("turn")
    aggregated = table.agg(
        requests=pl.len(),
        prompt_p50=pl.col("prompt_tokens").quantile(0.5, "linear"),
        prompt_p90=pl.col("prompt_tokens").quantile(0.9, "linear"),
        added_p50=pl.col("added").quantile(0.5, "linear"),
        output_p50=pl.col("output_tokens").quantile(0.5, "linear"),
    )
    return aggregated.sort("turn").cast(GROWTH)


def _quantiles(waits: pl.Series) -> pl.DataFrame:
    if not len(waits):
        return THINK.to_frame()
    return pl.DataFrame({"p": QUANTILES, "think_s": [waits.quantile(q, "linear") for q in QUANTILES]}, schema=THINK)
