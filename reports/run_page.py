"""The tail-latency page: one or several runs, the answer first, how it was made last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports import (
    answer,
    fidelity,
    fidelity_charts,
    lives,
    placement_charts,
    provenance,
    run_charts,
    run_tables,
    sensitivity,
    words,
)
from reports.attainment import OBJECTIVES, Objectives
from reports.cautions import cautions
from reports.compare import comparison, same_trace
from reports.figures import colour
from reports.groups import ROWS, TITLES, Split, harm_metric, splits
from reports.lives import Lives
from reports.measured import Measured, measure_all
from reports.misses import misses
from reports.numbers import Statistics, run_numbers, statistics
from reports.page import bundle_soon, csv, packed
from reports.page import render as render_page
from reports.resampling import REPLICATES
from reports.time_figures import name_of
from reports.words import Unit
from toolkit.metrics import LATENCIES
from toolkit.runs import Run


@dataclass(frozen=True)
class Report:
    """Everything that is computed once: what `--json` prints and what the page is drawn from."""

    stats: list[Statistics]
    objectives: Objectives
    numbers: list[dict[str, Any]]
    differences: dict[str, Any] | None
    pairs: list[fidelity.Pair]
    fidelity: dict[str, Any] | None

    @property
    def runs(self) -> list[Measured]:
        return [s.run for s in self.stats]

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the tables, for scripts."""
        return {"runs": self.numbers, "comparison": self.differences, "fidelity": self.fidelity}


def compute(runs: Sequence[Run], objectives: Objectives | None = None) -> Report:
    """Read and count the runs; the first is the one that the others are compared with."""
    asked = objectives or Objectives()
    stats = [statistics(run, asked) for run in measure_all(runs)]
    numbers = [run_numbers(s) for s in stats]
    measured = [s.run for s in stats]
    pairs = fidelity.pairs(measured)
    compared = comparison(stats[0], stats[1:]) if len(stats) > 1 else None
    return Report(stats, asked, numbers, compared, pairs, fidelity.numbers(measured, pairs))


def render(runs: Sequence[Run], objectives: Objectives | None = None) -> str:
    """The page of these runs."""
    bundle = bundle_soon()
    return draw(compute(runs, objectives), bundle)


def draw(report: Report, bundle: Any = None) -> str:
    """The page of a computed report."""
    return render_page("run.html", bundle or bundle_soon(), _values(report))


def _values(report: Report) -> dict[str, Any]:
    runs, numbers = report.runs, [{**n, "name": r.label} for n, r in zip(report.numbers, report.runs, strict=True)]
    units = {m: _unit(numbers, m) for m in LATENCIES}
    spent = [lives.lives(run) for run in runs]
    bands = [lives.composition(s) if len(s.order) else None for s in spent]
    tail = lives.main_phase(bands[0]) if len(runs) == 1 and bands[0] is not None else None
    return {
        "title": f"Tail latency: {words.listing([r.label for r in runs])}",
        "answer": answer.sentence(_headline(report, numbers, tail)),
        "objectives": answer.objectives(numbers),
        "saturation": sensitivity.warning(numbers),
        "facts": _facts(runs),
        "runs": [_run_head(i, report, n) for i, n in enumerate(numbers)],
        "metrics": run_tables.metric_tables(numbers),
        "tiles": run_tables.TILES,
        "percentiles": run_tables.NAMES,
        "tails": run_charts.tails(report.stats, units, report.objectives),
        "fidelity": fidelity_charts.tables(report.fidelity),
        "fidelity_base": report.fidelity["measured"] if report.fidelity else "",
        "fidelity_runs": [{"label": runs[p.simulated].label, "colour": colour(p.simulated)} for p in report.pairs],
        "fidelity_charts": fidelity_charts.charts(runs, report.pairs),
        "differences": _differences(report),
        "shifts": run_charts.shifts(report.stats, units),
        "attainment": run_tables.attainment_rows(numbers, _asked(report)),
        "scale": run_charts.scale_curves(report.stats),
        "over_time": run_charts.over_time(runs, units["e2e_s"]),
        **_who(report, units),
        "spent": [
            _spent(i, r, s, b) for i, (r, s, b) in enumerate(zip(runs, spent, bands, strict=True)) if b is not None
        ],
        "phases": [(p, p.removesuffix("_s")) for p in lives.PHASES],
        "placed": placement_charts.charts(runs),
        "placed_models": placement_charts.key(runs),
        "missed": [_missed(i, run, s) for i, (run, s) in enumerate(zip(runs, spent, strict=True))],
        **_how(report),
    }


def _unit(numbers: list[dict[str, Any]], metric: str) -> Unit:
    return run_tables.metric_unit(numbers, metric)


def _facts(runs: list[Measured]) -> list[tuple[str, str]]:
    return [
        ("trace", provenance.shared(runs, "trace", "name")),
        ("engine", provenance.engine(runs)),
        ("load ρ", provenance.load(runs)),
    ]


def _headline(report: Report, numbers: list[dict[str, Any]], tail: tuple[str, float] | None) -> str:
    """How right a simulation is, where a measured and a simulated run are all there is; else how the runs differ."""
    if report.fidelity and len(numbers) == 2 and all(n["state"] == "finished" for n in numbers):
        return fidelity.sentence(report.fidelity)
    return answer.answer(numbers, report.differences, tail, provenance.load(report.runs))


def _run_head(index: int, report: Report, numbers: dict[str, Any]) -> dict[str, Any]:
    """What the page says of a run outside of tables."""
    run = report.runs[index]
    held = any(pair.simulated == index for pair in report.pairs)
    return {
        "label": run.label,
        "colour": colour(index),
        "verdict": "HELD AGAINST A RUN" if held else provenance.verdict(run),
        "cautions": cautions(run, numbers, report.runs[0]),
        "requests": words.whole(numbers["requests"]),
        "failures": run_tables.failures(numbers),
        "failed_share": words.percent(1 - numbers["ok"] / numbers["requests"]),
        "goodput": words.number(numbers["goodput_per_s"]),
        "throughput": words.number(numbers["throughput_per_s"]),
        "span": words.duration(numbers["span_s"]),
        "joint": run_tables.attainment_rows([numbers], {})[-1]["cells"][0] if numbers["attainment"]["joint"] else None,
    }


def _differences(report: Report) -> list[dict[str, Any]]:
    if report.differences is None:
        return []
    return [{**run, "rows": run_tables.difference_rows(run)} for run in report.differences["runs"]]


def _asked(report: Report) -> dict[str, str]:
    """Each objective in words: one value, or that they differ."""
    found = {}
    for name in OBJECTIVES:
        value = report.objectives.fixed(name, report.runs[0].frame)
        found[name] = "each its own" if value is None else f"≤ {words.unit_for('_s', [value]).spell(value)}"
    return found


def _missed(index: int, run: Measured, spent: Lives) -> dict[str, Any]:
    """Why requests of a run missed their objectives, most frequent first."""
    found = misses(run, spent).filter(pl.col("either") > 0).sort("either", descending=True)
    offered = int(found["offered"][0]) if found.height else 0
    rows = [
        {
            "meaning": row["meaning"],
            **{name: words.whole(row[name]) for name in ("ttft", "tpot", "either")},
            "share": words.percent(row["either"] / offered),
        }
        for row in found.iter_rows(named=True)
    ]
    return {"run": index, "label": run.label, "rows": rows}


def _who(report: Report, units: dict[str, Unit]) -> dict[str, Any]:
    runs = report.runs
    harm = harm_metric(runs)
    found = splits(runs, [s.used["joint"] <= 1 for s in report.stats])
    models = next((s for s in found if s.name == "model"), None)
    return {
        "harm": words.TITLES[harm],
        "harmed": words.named(harm),
        "harm_meaning": words.MEANINGS[harm],
        "splits": [_split(report.stats, s, units) for s in found],
        "heats": run_charts.heats(runs, models, harm, units[harm]),
    }


def _split(stats: list[Statistics], split: Split, units: dict[str, Unit]) -> dict[str, Any]:
    runs = [s.run for s in stats]
    rows = {(r["run"], r["group"]): r for r in split.table.iter_rows(named=True)}
    unit, ttft = units[split.harm], units["ttft_s"]
    groups = [
        {
            "name": name_of(group),
            "rows": [_group_row(i, rows.get((run.label, group)), unit, ttft) for i, run in enumerate(runs)],
        }
        for group in split.order[:ROWS]
    ]
    return {
        "name": split.name,
        "title": TITLES[split.name],
        "unit": unit.name,
        "ttft_unit": ttft.name,
        "note": _who_note(split, unit, runs[0].label, len(runs)),
        "panels": run_charts.panels(stats, split, unit),
        "groups": groups,
        "hidden": max(0, len(split.order) - ROWS),
        "csv": packed(csv(split.table)),
    }


def _group_row(run: int, row: dict[str, Any] | None, unit: Unit, ttft: Unit) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "run": run,
        "requests": words.whole(row["requests"]),
        "failed": words.whole(row["failed"]),
        "p50": unit.show(row["p50"]),
        "p99": unit.show(row["p99"]),
        "ttft_p99": ttft.show(row["ttft_p99"]),
        "attainment": words.percent(row["attainment"]),
    }


def _who_note(split: Split, unit: Unit, base: str, runs: int) -> str:
    """The worst group against the best, in the base run."""
    known = split.table.filter((pl.col("run") == base) & pl.col("p99").is_not_null() & (pl.col("requests") >= 100))
    if known.height < 2:
        return "Too few requests a group to compare."
    ordered = known.sort("p99", descending=True)
    worst, best = (ordered.row(i, named=True) for i in (0, -1))
    where = f" in {base}" if runs > 1 else ""
    worst_name, best_name = name_of(worst["group"]), name_of(best["group"])
    return (
        f"Worst{where}: {worst_name}, P99 {words.named(split.harm)} {unit.spell(worst['p99'])}, "
        f"{words.number(worst['p99'] / best['p99'])} times that of {best_name} (groups of 100 requests and more)."
    )


def _spent(index: int, run: Measured, found: Lives, bands: pl.DataFrame) -> dict[str, Any]:
    unit = words.unit_for("e2e_s", [float(bands["e2e_s"][-1])])
    longest = float(bands["e2e_s"].max() or 1.0)  # type: ignore[arg-type]
    phase, share = lives.main_phase(bands)
    slices = lives.slices(found)
    return {
        "index": index,
        "label": run.label,
        "unit": unit.name,
        "note": f"The slowest 1 % spent {words.percent(share)} of their time {answer.PHASE_WORDS[phase]}.",
        "bands": [_bar(row, longest, unit) | {"name": row["band"]} for row in bands.iter_rows(named=True)],
        "slices": {name: _rows(rows, unit) for name, rows in slices.items()},
        "csv": packed(csv(_life_rows(slices))),
    }


def _life_rows(slices: dict[str, pl.DataFrame]) -> pl.DataFrame:
    parts = [rows.select(pl.lit(name).alias("slice"), pl.all()) for name, rows in slices.items()]
    return pl.concat(parts).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _rows(rows: pl.DataFrame, unit: Unit) -> list[dict[str, Any]]:
    longest = float(rows["e2e_s"].max() or 1.0)  # type: ignore[arg-type]
    return [_life_row(row, longest, unit) for row in rows.iter_rows(named=True)]


def _life_row(row: dict[str, Any], longest: float, unit: Unit) -> dict[str, Any]:
    return _bar(row, longest, unit) | {"life": _life(row), "id": row["request_id"], "model": _model(row)}


def _model(row: dict[str, Any]) -> str:
    return "" if row["model"] is None else name_of(row["model"])


def _bar(row: dict[str, Any], longest: float, unit: Unit) -> dict[str, Any]:
    """Widths in percent of the longest bar, and a sentence for those who cannot see it."""
    widths = [(p.removesuffix("_s"), 100 * (row[p] or 0.0) / longest) for p in lives.PHASES]
    spoken = ", ".join(f"{p.removesuffix('_s')} {unit.spell(row[p] or 0.0)}" for p in lives.PHASES if row[p])
    return {"widths": widths, "spoken": spoken, "total": unit.show(row["e2e_s"])}


def _life(row: dict[str, Any]) -> list[tuple[str, str]]:
    """One request's life, in order."""
    spell = words.unit_for("_s", [row["e2e_s"]]).spell
    return [
        ("arrived at", words.duration(row["arrival_s"])),
        ("queued", spell(row["queue_s"])),
        ("weights loading", spell(row["loading_s"])),
        ("prefill", spell(row["prefill_s"])),
        ("decode", spell(row["decode_s"])),
        ("preempted", f"{spell(row['preempted_s'])}, {words.whole(row['preemptions'])} times"),
        ("TTFT", spell(row["ttft_s"])),
        ("E2E", spell(row["e2e_s"])),
        ("slowdown", f"{words.number(row['slowdown'])} ×"),
        ("prompt tokens", f"{words.whole(row['prompt_tokens'])}, {words.whole(row['cached_tokens'])} from cache"),
        ("output tokens", words.whole(row["output_tokens"])),
        ("model", name_of(row["model"])),
        ("tenant", name_of(row["tenant"])),
        ("tier", name_of(row["tier"])),
    ]


def _how(report: Report) -> dict[str, Any]:
    runs = report.runs
    paired = all(same_trace(runs[0], r) for r in runs[1:]) if len(runs) > 1 else None
    blocks = report.stats[0].drawn.shape[1]
    return {
        "paired": paired,
        "settings": provenance.settings(runs),
        "commands": [str(c) if (c := r.info.get("command")) else None for r in runs],
        "limits": [provenance.limits(r) for r in runs],
        "send_lag": [provenance.send_lag(r) for r in runs],
        "notes": [provenance.notes(r) for r in runs],
        "dropped": [provenance.dropped(r) for r in runs],
        "methods": provenance.methods(
            paired,
            blocks,
            REPLICATES,
            step_time=any(r.sensitivity.height for r in runs),
            warm_up=sum(r.warm_up for r in runs),
        ),
    }
