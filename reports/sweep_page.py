"""The page of a sweep: which policy serves how much with how little, and how that was found."""

from typing import Any

import polars as pl

from reports import words
from reports.page import Chart, bundle_soon, csv, packed
from reports.page import render as render_page
from reports.sweep_charts import NUMBERS, Policy, attainment_charts, capacity_charts, policies, said, scale_axes, scales
from reports.words import DASH, number, percent, whole
from toolkit import __version__
from toolkit.errors import printable
from toolkit.sources import flat
from toolkit.sweeps import SweepFolder, over_seeds

ROWS = 60
METRICS = {"joint": "attainment", "ttft": "attainment_ttft", "tpot": "attainment_tpot"}
SCALES = ("slo_scale_ttft", "slo_scale_tpot")
Row = dict[str, Any]


def render(folder: SweepFolder) -> str:
    """The page of one sweep."""
    bundle = bundle_soon()
    table, found = folder.table(), folder.capacity()
    means = over_seeds(table)
    search = found.row(0, named=True) if len(found) else None
    column = METRICS[search["metric"]] if search else "attainment"
    wanted = search["wanted"] if search else None
    who = policies(means)
    failed = table.filter(pl.col("error").is_not_null())
    values = {
        "title": f"Sweep: {_source(folder)}",
        "answer": answer(means, found, who),
        "lede": _lede(column, wanted),
        "facts": _facts(folder, table),
        "unfinished": folder.info.get("state") != "finished",
        "policies": who,
        **_charts(means, who, column, wanted),
        **_capacity(found, who),
        **_combinations(means, who),
        "points_csv": packed(csv(table)),
        "failures": [
            (printable(e), whole(n)) for e, n in failed.group_by("error", maintain_order=True).len().iter_rows()
        ],
        "command": str(folder.info.get("command") or ""),
        "methods": _methods(folder, table),
        "settings": _settings(folder),
    }
    return render_page("sweep.html", bundle, values)


def answer(means: pl.DataFrame, found: pl.DataFrame, who: list[Policy]) -> str:
    """What one most wants to know, in one sentence."""
    if len(found):
        return _capacity_answer(found, who)
    known = means.filter(pl.col("attainment").is_not_null())
    if known.is_empty():
        return "No request had an objective, so nothing was met or missed: give slo_scale, or read the latencies below."
    label = _labels(who)
    if len(who) == 1:
        ends = [percent(known["attainment"].min()), percent(known["attainment"].max())]  # type: ignore[arg-type]
        return f"{who[0].label} meets {ends[0]} to {ends[1]} of its objectives, depending on what is asked of it."
    spread = known.group_by(NUMBERS, maintain_order=True).agg(
        (pl.col("attainment").max() - pl.col("attainment").min()).alias("spread")
    )
    at = spread.sort("spread", descending=True, maintain_order=True).head(1)
    here = known.join(at, on=NUMBERS, nulls_equal=True).sort("attainment", descending=True, maintain_order=True)
    best, worst = here.row(0, named=True), here.row(-1, named=True)
    where = said(best, NUMBERS)
    if best["attainment"] == worst["attainment"]:
        return f"All policies are alike: {percent(best['attainment'])} of objectives met at {where}."
    told = f"{label(best)} meets {percent(best['attainment'])} of objectives at {where}, "
    told += f"{label(worst)} {percent(worst['attainment'])}"
    if best["attainment_low"] is not None and best["attainment_low"] <= worst["attainment_high"]:
        return f"No difference between the policies is shown: {told}, and these, the furthest apart, may be alike."
    return f"{told}: there the policies differ most."


def _labels(who: list[Policy]) -> Any:
    names = {(p.placement, p.scheduler): p.label for p in who}
    return lambda row: names[row["placement"], row["scheduler"]]


def _capacity_answer(found: pl.DataFrame, who: list[Policy]) -> str:
    """The best policy and the worst at the first combination where any is good enough."""
    over, label = found["over"][0], _labels(who)
    fixed = [n for n in NUMBERS if n != over]
    wanted = _wanted(found["wanted"][0])
    for part in found.partition_by(fixed, maintain_order=True):
        known = part.filter(pl.col("capacity").is_not_null()).sort(
            "capacity", descending=over == "load", maintain_order=True
        )
        if known.is_empty():
            continue
        first, last = known.row(0, named=True), known.row(-1, named=True)
        where = said(first, [n for n in fixed if found[n].n_unique() > 1])
        other = ""
        if last["capacity"] != first["capacity"]:
            other = f"; {label(last)} {'needs' if over == 'gpus' else 'bears'} {_exact(last['capacity'])}"
        return f"{label(first)} {_serves(first)} at {wanted} attainment{f' ({where})' if where else ''}{other}."
    return f"Nothing that was allowed reaches {wanted} attainment."


def _serves(row: Row) -> str:
    if row["over"] == "load":
        return f"bears load {_exact(row['capacity'])}"
    return f"serves it with {_exact(row['capacity'])} GPU{'s' if row['capacity'] != 1 else ''}"


def _lede(column: str, wanted: float | None) -> str:
    of = {
        "attainment": "every objective it has",
        "attainment_ttft": "its TTFT objective",
        "attainment_tpot": "its TPOT objective",
    }
    line = f" The dashed line is the {_wanted(wanted)} that was asked for." if wanted is not None else ""
    return f"Attainment is the share of all offered requests that met {of[column]}; what was refused missed.{line}"


def _count(mean: float | None) -> str:
    return number(mean) if mean is None or mean != int(mean) else whole(mean)


def _exact(value: float) -> str:
    """A number of GPUs or a load, as it was tried."""
    return f"{value:.4g}"


def _wanted(share: float) -> str:
    return f"{100 * share:.4g}\u202f%"


def _source(folder: SweepFolder) -> str:
    source = folder.info["source"]
    return printable(str(source.get("name") or source.get("workload")))


def _facts(folder: SweepFolder, table: pl.DataFrame) -> list[tuple[str, str]]:
    seeds = table["seed"].n_unique()
    return [
        ("requests of", _source(folder)),
        ("points", whole(len(table))),
        ("seeds", whole(seeds)),
    ]


def _charts(means: pl.DataFrame, who: list[Policy], column: str, wanted: float | None) -> dict[str, list[Chart]]:
    x, other = scale_axes(means)
    return {
        "by_load": attainment_charts(means, who, "load", ("gpus", *SCALES), column, wanted),
        "by_gpus": attainment_charts(means, who, "gpus", ("load", *SCALES), column, wanted),
        "by_scale": attainment_charts(means, who, x, ("gpus", "load", *([other] if other else [])), column, wanted),
    }


def _capacity(found: pl.DataFrame, who: list[Policy]) -> dict[str, Any]:
    """The table of what the search found."""
    if found.is_empty():
        return {"capacity": None, "capacity_charts": []}
    over = found["over"][0]
    rows = [_capacity_row(row, who) for row in found.iter_rows(named=True)]
    heads = ["GPUs" if over == "load" else "load", "SLO ×", "highest load" if over == "load" else "fewest GPUs"]
    return {
        "capacity": {"rows": rows, "heads": heads, "wanted": _wanted(found["wanted"][0]), "csv": packed(csv(found))},
        "capacity_charts": capacity_charts(found, who),
    }


def _capacity_row(row: Row, who: list[Policy]) -> Row:
    ends = [DASH if row[f"capacity_{e}"] is None else _exact(row[f"capacity_{e}"]) for e in ("low", "high")]
    return {
        "policy": _at(row, who),
        "other": _exact(row["load"]) if row["over"] == "gpus" else whole(row["gpus"]),
        "scale": scales(row),
        "capacity": "none" if row["capacity"] is None else _exact(row["capacity"]),
        "interval": f"{ends[0]} to {ends[1]}",
        "attainment": percent(row["attainment"]),
        "rho": number(row["utilisation"]),
        "monotone": row["monotone"],
        "said": printable(row["said"]),
    }


def _at(row: Row, who: list[Policy]) -> int:
    return next(i for i, p in enumerate(who) if (p.placement, p.scheduler) == (row["placement"], row["scheduler"]))


def _combinations(means: pl.DataFrame, who: list[Policy]) -> dict[str, Any]:
    """Every combination, its means over seeds."""
    units = {m: words.unit_for("_s", means[f"{m}_p99_s"].to_list()) for m in ("ttft", "tpot")}
    rows = [_combination(row, who, units) for row in means.head(ROWS).iter_rows(named=True)]
    return {"rows": rows, "hidden": len(means) - len(rows), "units": units, "means_csv": packed(csv(means))}


def _combination(row: Row, who: list[Policy], units: dict[str, words.Unit]) -> Row:
    low, high = row["attainment_low"], row["attainment_high"]
    return {
        "policy": _at(row, who),
        "gpus": whole(row["gpus"]),
        "load": _exact(row["load"]),
        "scale": scales(row),
        "rho": number(row["utilisation"]),
        "attainment": percent(row["attainment"]) if row["seeds"] else "failed",
        "interval": None if low is None else f"{percent(low)} to {percent(high)}",
        "ttft": percent(row["attainment_ttft"]),
        "tpot": percent(row["attainment_tpot"]),
        "p99_ttft": units["ttft"].show(row["ttft_p99_s"]),
        "p99_tpot": units["tpot"].show(row["tpot_p99_s"]),
        "goodput": number(row["goodput_per_s"]),
        "moves": " / ".join(_count(row[name]) for name in ("loads", "evictions", "migrations"))
        if row["seeds"]
        else DASH,
    }


def _methods(folder: SweepFolder, table: pl.DataFrame) -> list[str]:
    """What a reader must know of how the numbers were made."""
    spec, several = folder.info["spec"], table["seed"].n_unique() > 1
    said_ = [
        "Every point is a simulated replay in virtual time, as accurate as its latency models: this page cannot tell.",
        "ρ is the GPU time that the requests take when every model is by itself, over the time of all GPUs.",
        "Latencies count from the intended arrival; P99 is of completed requests, between order statistics.",
        "First come, first served is always among the schedulers.",
    ]
    if spec.get("slo_scale"):
        said_.append(
            "Objectives are each model's P95 TTFT and TPOT on GPUs of its own, at the trace's own load, times the SLO "
            "scale; they are worked out once for each seed."
        )
    if several and spec.get("workload"):
        said_.append("Intervals are Student's, of the mean over seeds, each of which generates the workload anew.")
    elif several:
        said_.append(
            "Intervals are Student's, of the mean over seeds. Each seed keeps another share of the same requests, so "
            "they say how much hangs on single requests, and are too narrow for what another day would bring."
        )
    else:
        said_.append(
            "There is one seed, so intervals are Wilson's over its requests, as if requests did not wait for each "
            "other: they are too narrow near saturation."
        )
    return [*said_, f"Made by trace-toolkit {__version__}."]


def _settings(folder: SweepFolder) -> list[tuple[str, str]]:
    parts = {name: folder.info[name] for name in ("spec", "source", "cluster", "versions")}
    return [(printable(name), printable(str(value))) for name, value in flat(parts).items() if value is not None]
