"""The trace page's charts: an analysis's tables in, charts with the line under them out."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from reports import burst_charts, drift_charts, trace_figures, words
from reports.page import Chart
from reports.time_figures import name_of, time_unit
from reports.words import Unit, number, percent, whole

Tables = Mapping[str, Mapping[str, pl.DataFrame]]


def table(tables: Tables, analysis: str, name: str) -> pl.DataFrame:
    """One table, without rows where the analysis did not run."""
    return tables.get(analysis, {}).get(name, pl.DataFrame())


def first(tables: Tables, analysis: str, name: str = "summary") -> dict[str, Any]:
    """The only row of a summary, empty where there is none."""
    found = table(tables, analysis, name)
    return found.row(0, named=True) if found.height else {}


def clock_of(tables: Tables) -> Unit:
    return time_unit(first(tables, "arrivals").get("span_s") or 0.0)


def rate(tables: Tables) -> list[Chart]:
    found = table(tables, "arrivals", "rate")
    if found.height < 2:
        return []
    clock = clock_of(tables)
    peak = found.sort("rate_per_s", descending=True).row(0, named=True)
    mean = first(tables, "arrivals").get("rate_per_s")
    times = f", {number(peak['rate_per_s'] / mean)} times the mean" if mean else ""
    busiest = f"The busiest {words.duration(peak['window_s'])} had {number(peak['rate_per_s'])} requests/s"
    note = f"{busiest}{times}, at {clock.spell(peak['start_s'])}."
    drawn = trace_figures.steps(found, "start_s", "rate_per_s", clock, "Requests per second")
    return [Chart("rate", "Arrival rate over time", note, drawn, found, 260)]


def dispersion(tables: Tables) -> list[Chart]:
    found = table(tables, "arrivals", "dispersion")
    if found.height < 2:
        return []
    last = found.sort("window_s").row(-1, named=True)
    kind = (
        "as steady as Poisson" if last["index"] <= last["poisson_high"] else f"{number(last['index'])} times Poisson's"
    )
    grey = "Grey: where 95 % of Poisson traces of this size fall."
    note = f"Over windows of {words.duration(last['window_s'])} the variance is {kind}. {grey}"
    return [
        Chart("dispersion", "Index of dispersion against window", note, trace_figures.dispersion(found), found, 280)
    ]


def lengths(tables: Tables) -> list[Chart]:
    found = table(tables, "lengths", "histogram")
    if found.is_empty():
        return []
    rows = table(tables, "lengths", "summary").filter(pl.col("requests") > 0)
    said = [
        f"{row['column'].removesuffix('_tokens')} P50 {whole(row['p50'])}, P99 {whole(row['p99'])}"
        for row in rows.iter_rows(named=True)
        if row["p50"] is not None
    ]
    note = f"Tokens: {'; '.join(said)}. Ten bins a decade; zeros are left out."
    return [
        Chart(
            "lengths", "Share of requests by prompt and output length", note, trace_figures.histogram(found), found, 320
        )
    ]


def popularity(tables: Tables) -> list[Chart]:
    found = [
        (i, column, part)
        for i, column in enumerate(("model", "tenant"))
        if (part := table(tables, "popularity", f"{column}s")).height > 1
    ]
    if not found:
        return []
    said = [f"{name_of(p[c][0])} has {percent(p['share'][0])} of requests, of {p.height} {c}s" for _, c, p in found]
    zipf = {r["column"]: r["exponent"] for r in table(tables, "popularity", "zipf").iter_rows(named=True)}
    law = [f"{c}s fall with rank to the power −{number(zipf[c])}" for _, c, _ in found if zipf.get(c) is not None]
    rows = pl.concat([p.rename({c: "name"}).select(pl.lit(c).alias("column"), pl.all()) for _, c, p in found])
    note = "; ".join(said + law) + "."
    return [
        Chart(
            "popularity", "Share of requests by rank of model and tenant", note, trace_figures.ranks(found), rows, 320
        )
    ]


def concurrency(tables: Tables) -> list[Chart]:
    found, summary = table(tables, "idle", "concurrency"), first(tables, "idle")
    if found.height < 2:
        return []
    basis = str(summary.get("basis") or "concurrency")
    basis = basis[0].upper() + basis[1:]
    mean, p99, most = (number(summary.get(k)) for k in ("mean", "p99", "max"))
    drawn = trace_figures.steps(found, "start_s", "mean", clock_of(tables), basis)
    note = f"{basis}: mean {mean}, P99 {p99}, at most {most}."
    return [Chart("concurrency", f"{basis} over time", note, drawn, found, 240)]


def cache(tables: Tables) -> list[Chart]:
    found = table(tables, "prefixes", "cache")
    if found.height < 2:
        return []
    summary, biggest = first(tables, "prefixes"), found.sort("cache_blocks").row(-1, named=True)
    enough = found.filter(pl.col("block_hit_ratio") >= 0.9 * biggest["block_hit_ratio"]).sort("cache_blocks")
    note = (
        f"An infinite cache hits {percent(summary.get('block_hit_ratio'))} of blocks; an LRU cache of "
        f"{whole(enough['cache_blocks'][0])} blocks already reaches nine tenths of that."
    )
    drawn = trace_figures.curve(
        found, "cache_blocks", "block_hit_ratio", ("Cache (blocks)", "Block hit ratio"), share=True
    )
    return [Chart("cache", "Block hit ratio against cache size", note, drawn, found, 300)]


def turns(tables: Tables) -> list[Chart]:
    found, summary = table(tables, "sessions", "turns"), first(tables, "sessions")
    if found.height < 2:
        return []
    single, longest = percent(summary.get("single_turn_share")), whole(summary.get("max_turns"))
    note = f"{single} of sessions have one turn; the longest has {longest}."
    drawn = trace_figures.curve(found, "turns", "sessions", ("Turns", "Sessions"))
    return [Chart("turns", "Sessions by number of turns", note, drawn, found, 280, "Turns")]


def growth(tables: Tables) -> list[Chart]:
    found = table(tables, "sessions", "growth")
    if found.height < 2:
        return []
    begin, end = found.row(0, named=True), found.row(-1, named=True)
    medians = f"{whole(begin['prompt_p50'])} tokens in turn {begin['turn']} and {whole(end['prompt_p50'])}"
    note = f"The median prompt is {medians} in turn {end['turn']}, of {whole(end['requests'])} requests."
    drawn = trace_figures.curve(found, "turn", "prompt_p50", ("Turn", "Median prompt tokens"), log=False)
    return [Chart("growth", "Median prompt tokens by turn", note, drawn, found, 280, "Prompt growth")]


def groups(tables: Tables) -> list[Chart]:
    return burst_charts.charts(tables["groups"])


CHARTS = {
    "arrivals": (rate, dispersion),
    "lengths": (lengths,),
    "popularity": (popularity,),
    "idle": (concurrency,),
    "prefixes": (cache,),
    "sessions": (turns, growth),
    "drift": (lambda tables: drift_charts.drift(tables["drift"]),),
    "clients": (lambda tables: drift_charts.clients(tables["clients"]),),
    "groups": (groups,),
}


def charts(tables: Tables, analysis: str) -> list[Chart]:
    """Every chart that is known for an analysis and has data."""
    return [chart for make in CHARTS.get(analysis, ()) for chart in make(tables)]
