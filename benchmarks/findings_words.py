"""One trace in words: what it is, how it bursts, who groups, what drifts and why, and what was not found."""

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.findings_cause import Split, segments, split, strata
from benchmarks.reproductions.tables import markdown
from toolkit.readable import number, percent, seconds

if TYPE_CHECKING:
    from benchmarks.findings import Finding

COLUMNS = {"prompt_tokens": "prompt", "output_tokens": "output", "ratio": "output ÷ prompt"}
SURE = 5_000  # requests from which benchmarks/results/drift.md finds every step of ×1.5
SLOW = 3.0  # stretch above which what holds for planted, independent lengths no longer does
SHOWN_POINTS, SHOWN_GROUPS = 8, 6


def name_of(column: str) -> str:
    return COLUMNS.get(column, f"mix of {column}s")


def first(table: pl.DataFrame) -> dict[str, Any] | None:
    return table.row(0, named=True) if table.height else None


def names(found: "Finding", column: str) -> int:
    """How many models or tenants the trace tells apart."""
    return found.tables["popularity"][f"{column}s"].drop_nulls(column).height


def dispersion(found: "Finding", window_s: float = 60.0) -> dict[str, Any] | None:
    """The row of the window that was asked for."""
    return first(found.tables["arrivals"]["dispersion"].filter(pl.col("window_s") == window_s))


def what(found: "Finding") -> str:
    """Rows, span, names, and the loader's notes."""
    info = found.info
    dropped = "".join(f", {count:,} dropped ({reason})" for reason, count in info.dropped.items())
    span = "no arrival times" if info.span_s is None else f"{seconds(info.span_s)}, {_rate(found)}"
    who = " and ".join(_several(names(found, c), c) for c in ("model", "tenant") if names(found, c)) or "no names"
    notes = "".join(f" {note[0].upper()}{note[1:].rstrip('.')}." for note in info.notes)
    return f"`{info.format}`, {info.rows_kept:,} requests{dropped}; {span}; {who}.{notes}"


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count > 1)}"


def _rate(found: "Finding") -> str:
    about = found.tables["arrivals"]["summary"].row(0, named=True)
    return f"{number(about['rate_per_s'])} requests/s"


def bursts(found: "Finding") -> str:
    """Gaps and counts against Poisson."""
    about = first(found.tables["arrivals"]["summary"])
    if about is None:
        return "not to be told: there are no arrival times."
    cv = about["note"] or f"gap CV {number(about['gap_cv'])}, longest gap {seconds(about['gap_max_s'])}"
    rows = found.tables["arrivals"]["dispersion"].filter(pl.col("window_s") >= 1).to_dicts()
    counts = "; ".join(
        f"{seconds(r['window_s'])} {number(r['index'])} ({number(r['poisson_low'])}–{number(r['poisson_high'])})"
        for r in rows
    )
    return f"{cv}. Variance ÷ mean of counts (where 95 % of Poisson traces fall): {counts or 'too short a trace'}."


def lengths(found: "Finding") -> str:
    """Quantiles of both lengths as a table."""
    rows = [
        {"": f"{name_of(r['column'])} ({found.info.token_unit})"}
        | {k: None if r[k] is None else float(r[k]) for k in ("mean", "p50", "p90", "p99", "max")}
        for r in found.tables["lengths"]["summary"].filter(pl.col("requests") > 0).to_dicts()
    ]
    return markdown(rows) if rows else "No lengths."


def more(found: "Finding") -> Iterator[str]:
    """Sessions and prefixes, where the trace has them."""
    about = first(found.tables["sessions"]["summary"])
    if about and about["sessions"]:
        turns = (
            f"{about['sessions']:,}, turns on average {number(about['turns_mean'])} (P99 {number(about['turns_p99'])})"
        )
        think = f"; think time P50 {seconds(about['think_p50_s'])}" if about["think_p50_s"] is not None else ""
        yield f"**Sessions**: {turns}{think}."
    about = first(found.tables["prefixes"]["summary"])
    if about and about["blocks"]:
        yield (
            f"**Prefixes**: {percent(about['prefix_hit_ratio'])} of {about['blocks']:,} blocks lie in a prefix that "
            f"occurred before (infinite cache, scope {about['scope']})."
        )


def group_words(found: "Finding") -> Iterator[tuple[str, str]]:
    """(by, verdict with evidence or power) for models and tenants."""
    for by, tables in (("model", found.tables["groups"]), ("tenant", found.tenants)):
        if tables is not None:
            yield by, _group(found, by, tables)


def _group(found: "Finding", by: str, tables: dict[str, pl.DataFrame]) -> str:
    about = first(tables["summary"])
    if found.info.span_s is None:
        return "not possible: no arrival times."
    if names(found, by) < 2 or about is None:
        return f"not possible: the trace names {'one' if names(found, by) else 'no'} {by}."
    if about["window_s"] is None:
        return f"not possible: {about['note']}."
    power = _power(by, about)
    left = f" {about['note'][0].upper()}{about['note'][1:]}." if about["note"] else ""
    if about["verdict"] == "none":
        return f"**none** among the {about['tested']} {by}s tested ({power}).{left}"
    rows = [
        {"group": r["id"], "members": r["size"], "p": r["p_value"], "halves agree": r["stability"], "lift": r["lift"],
         "bursts": r["bursts"]}
        for r in tables["groups"].head(SHOWN_GROUPS).to_dicts()
    ]  # fmt: skip
    return f"**{about['groups']}** among the {about['tested']} {by}s tested ({power}).{left}\n\n{markdown(rows)}\n"


def _power(by: str, about: dict[str, Any]) -> str:
    pair, group = about["power_pair"], about["power_group"]
    if pair is None or not isfinite(pair):
        return (
            f"family-wise error {percent(about['family_wise_error'])}; the {by}s have too few bursts to tell the power"
        )
    several = f", four such {by}s in {percent(group)}" if about["tested"] >= 4 else ""
    return (
        f"two {by}s that share half of their bursts would be found in {percent(pair)} of cases{several}; "
        f"family-wise error {percent(about['family_wise_error'])}"
    )


def drift_rows(found: "Finding") -> list[dict[str, object]]:
    """A row a column: verdict, p, false alarms a day, number of changes."""
    return [
        {
            "of": name_of(r["column"]),
            "verdict": _verdict(r),
            "p": r["p_value"],
            "false alarms a day": r["false_alarms_per_day"],
            "most KS to the first window": _most(found, r["column"]),
        }
        for r in found.tables["drift"]["summary"].to_dicts()
    ]


def _verdict(row: dict[str, Any]) -> str:
    if row["p_value"] is None:
        return f"not tested: {row['note']}"
    count = row["change_points"]
    return f"**drift**, {count} change{'s' * (count > 1)}" if row["verdict"] == "drift" else "none shown"


def _most(found: "Finding", column: str) -> str | None:
    """The largest distance, beside what 99 % of permutations stay below."""
    null = found.tables["drift"]["null"]
    row = first(null.filter(pl.col("column") == column, pl.col("distance") == "ks", pl.col("against") == "reference"))
    return None if row is None else f"{number(row['most'])} (null {number(row['null'])})"


def points(found: "Finding", column: str) -> pl.DataFrame:
    return found.tables["drift"]["change_points"].filter(pl.col("column") == column)


def point_rows(found: "Finding") -> list[dict[str, object]]:
    """Every change point of lengths and mixes, with its interval."""
    columns = found.tables["drift"]["summary"]["column"]
    return [_point(column, p) for column in columns for p in points(found, column).head(SHOWN_POINTS).to_dicts()]


def _point(column: str, p: dict[str, Any]) -> dict[str, object]:
    ordered = p["before"] is not None
    return {
        "of": name_of(column),
        "when": when(p),
        "from request": f"{p['request_id']:,} [{p['request_low']:,}, {p['request_high']:,}]",
        "median": f"{number(p['before'])} → {number(p['after'])}" if ordered else "–",
        "mean": f"{number(p['before_mean'])} → {number(p['after_mean'])}" if ordered else "–",
        "KS": p["ks"],
    }


def when(point: dict[str, Any]) -> str:
    if point["time_s"] is None:
        return "–"
    return f"{seconds(point['time_s'])} [{seconds(point['time_low_s'])}, {seconds(point['time_high_s'])}]"


def causes(found: "Finding", rng: np.random.Generator) -> Iterator[str]:
    """The split of every change of outputs, with intervals, by whatever the requests can be parted by."""
    changes = points(found, "output_tokens")
    table = found.tables["drift"]["cause"].filter(pl.col("column") == "output_tokens")
    for by in table["by"].unique(maintain_order=True):
        groups = strata(found.frame, by)
        if groups is None:
            continue
        parts = [split(found.frame, a, b, groups, rng) for a, b in segments(found.frame, changes)]
        each = "; ".join(f"change {n} {interval(part)}" for n, part in enumerate(parts, 1))
        kind = "prompt lengths (eight bins)" if by == "prompt_tokens" else f"{by}s"
        yield f"by the mix of {kind}: {each}; the rest is change within them"


def interval(part: Split) -> str:
    """A share and its 95 % interval."""
    return f"{percent(part.mix)} [{percent(part.low)}, {percent(part.high)}]"


def peaks(found: "Finding") -> str:
    """Who made the highest peak, and how many clients it takes for half of a peak."""
    tables = found.tables["clients"]
    if names(found, "tenant") < 2:
        return f"not to be told: the trace names {'one' if names(found, 'tenant') else 'no'} tenant."
    top = tables["clients"].head(3)
    share = f"the busiest of {tables['clients'].height:,} clients sends {percent(top['share'][0])} of the requests"
    if found.tables["clients"]["peaks"].is_empty():
        return f"{share}; no window is above 1.5 times the mean rate."
    worst = tables["peaks"].sort("times_mean", descending=True).row(0, named=True)
    makers = tables["makers"].filter(pl.col("start_s") == worst["start_s"])["excess_share"].to_list()
    need = tables["peaks"]["clients_for_half"]
    return (
        f"{share}. The highest window ({seconds(worst['window_s'])} at {seconds(worst['start_s'])}) has "
        f"{number(worst['times_mean'])} times the mean; its largest client made {percent(makers[0])} of the excess. "
        f"Over the {tables['peaks'].height} highest, {need.min()} to {need.max()} clients make half of the excess."
    )


def not_found(found: "Finding") -> str:
    """One sentence: what was looked for and not seen; one more: how far that can be trusted."""
    missing = "; ".join(_missing(found))
    return f"{missing or 'nothing that was asked stayed unanswered'}.{_limit(found)}"


def _limit(found: "Finding") -> str:
    """What the test of the lengths that do not drift could have missed."""
    rows = found.tables["drift"]["summary"].filter(pl.col("verdict") == "none", pl.col("p_value").is_not_null())
    rows = rows.filter(pl.col("column").is_in(["prompt_tokens", "output_tokens"]))
    if rows.is_empty():
        return ""
    if found.info.rows_kept < SURE:
        return f" {found.info.rows_kept:,} requests are few: a change of lengths by half can be missed."
    slow = rows.filter(pl.col("stretch") > SLOW)
    if slow.is_empty():
        return " On planted lengths a step of ×1.5 is always found at this size; ×1.2 and slow ramps can be missed."
    which = " and ".join(f"{name_of(r['column'])} ({number(r['stretch'])} times)" for r in slow.to_dicts())
    return (
        f" Long means vary more than independent blocks would, in {which}: these lengths wander slowly, the test has "
        "to allow for that, and even a large change that comes and goes as slowly is missed."
    )


def _missing(found: "Finding") -> Iterator[str]:
    rows = found.tables["drift"]["summary"].filter(pl.col("p_value").is_not_null()).to_dicts()
    calm = [name_of(r["column"]) for r in rows if r["verdict"] == "none"]
    if calm:
        yield f"no drift of {', '.join(calm)}"
    for by, tables in (("model", found.tables["groups"]), ("tenant", found.tenants)):
        about = first(tables["summary"]) if tables else None
        if about and about["window_s"] is not None and about["verdict"] == "none" and found.info.span_s is not None:
            yield f"no {by}s that burst together"
    if names(found, "model") < 2:
        yield "nothing about models, which are not named"
    if found.info.span_s is None:
        yield "nothing about time: drift is over the order of the file"
    if found.frame["predicted_output_tokens"].null_count() == found.frame.height:
        yield "no predicted lengths, so no estimation drift of the source's own"
