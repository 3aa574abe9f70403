"""The figures of docs/findings.md: burstiness by time scale, lengths over time with their changes, and a cause."""

from typing import TYPE_CHECKING

import polars as pl

from benchmarks.findings_words import name_of, points
from benchmarks.reproductions.drawing import Bars, Line, bars, lines

if TYPE_CHECKING:
    from benchmarks.findings import Finding

QUANTILES = ("p25", "p50", "p75", "p90")


def dispersion(found: list["Finding"]) -> str | None:
    """Variance ÷ mean of counts against the window, a line a trace whose longest window is above Poisson."""
    series = []
    for one in found:
        rows = one.tables["arrivals"]["dispersion"].filter(pl.col("window_s") >= 1, pl.col("index") > 0)
        if rows.height >= 3 and rows["index"][-1] > rows["poisson_high"][-1]:
            series.append(Line(_short(one), rows["window_s"].to_list(), rows["index"].to_list()))
    if not series:
        return None
    ends = [min(s.x[0] for s in series), max(s.x[-1] for s in series)]
    poisson = Line("Poisson", ends, [1.0, 1.0], dashed=True)
    title = "Burstiness by time scale"
    return lines(title, "window, s", "variance ÷ mean of counts", [*series, poisson], log_x=True, log_y=True)


def over_time(found: "Finding", column: str) -> str:
    """Quantiles of a length in windows, change points (95 %) in grey."""
    rows = found.tables["drift"]["windows"].filter(pl.col("column") == column)
    timed = rows["start_s"].null_count() == 0
    x = (rows.select((pl.col("start_s") + pl.col("end_s")) / 120).to_series() if timed else rows["window"]).to_list()
    series = [Line(q.upper(), x, rows[q].to_list()) for q in QUANTILES]
    marks = [(p["time_low_s"] / 60, p["time_high_s"] / 60) for p in points(found, column).to_dicts() if timed]
    axis = "minutes from the first request" if timed else "window of the file"
    return lines(f"{_short(found)}: {name_of(column)} tokens", axis, "tokens", series, marks=marks)


def shares(found: "Finding") -> str:
    """The share of each prompt length in every segment of the outputs' drift."""
    cause = found.tables["drift"]["cause"]
    cause = cause.filter(pl.col("column") == "output_tokens", pl.col("by") == "prompt_tokens")
    ends = [0.0, *points(found, "output_tokens")["time_s"], found.info.span_s or 0.0]
    parts = [cause.filter(pl.col("change") == 0)["share_before"].to_list()]
    parts += [cause.filter(pl.col("change") == n)["share_after"].to_list() for n in range(len(ends) - 2)]
    series = [
        Bars(f"{begin / 60:.1f} to {end / 60:.1f} min", [100 * share for share in part])
        for begin, end, part in zip(ends, ends[1:], parts, strict=False)
    ]
    labels = cause.filter(pl.col("change") == 0)["stratum"].to_list()
    return bars(f"{_short(found)}: share of prompt lengths (tokens)", labels, "% of the segment's requests", series)


def _short(found: "Finding") -> str:
    source, stem = found.folder.split("_")[0], found.file.split(".")[0]
    return f"{source} {stem.rpartition('_')[2] if stem.lower().startswith(source) else stem}"[:34]
