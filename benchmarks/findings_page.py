"""docs/findings.md as Markdown: a summary, the conversation trace that drifts, Prism's measures, then every trace."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jinja2 import Environment, StrictUndefined

from benchmarks import findings_figures as figures
from benchmarks import findings_words as words
from benchmarks.findings_cause import split, strata
from benchmarks.reproductions.tables import markdown
from toolkit.readable import number, percent, seconds
from toolkit.runs import versions

if TYPE_CHECKING:
    from benchmarks.findings import Finding, Findings
    from workloads.generators.servegen_files import Client

TEMPLATE = Path(__file__).with_name("findings_page.md.j2")
DRIFTING = "AzureLLMInferenceTrace_conv.csv"
ARENA = "real_trace.pkl"
DRAWN = 1_000  # requests from which windows are worth a figure
EARLIER = {  # measured on the same trace by hand before this toolkit, and the range that the paper states for its own
    "switches_per_hour": ("active-set changes an hour (window 120 s)", 228, "54 (Novita) to 766 (Arena-Chat)"),
    "switches_per_hour_without_first": ("the same without the first entry", 222, "–"),
    "mean_active_share": ("share of models active, mean", 0.615, "0.23 to 0.50"),
    "idle_per_h_p50": ("gaps above 10 s a model-hour, median", 48, "40 to 100 for many models"),
    "idle_per_h_max": ("the same, largest", 138, "–"),
    "rate_cv_p50": ("CV of requests a minute, median model", 0.93, "above 0.5 for many models (Arena)"),
    "rate_cv_above_1_share": ("share of models with that CV above 1", 0.48, "many (Hyperbolic, Novita)"),
    "rate_cv_above_half_share": ("share of models with that CV above 0.5", 0.85, "many (Arena)"),
    "day_correlation_p50": ("day-to-day correlation, median model", "–", "clusters at 0"),
}
Drawn = dict[str, str]


def page(found: "Findings", rng: np.random.Generator) -> tuple[str, Drawn]:
    """The whole page and its figures by name."""
    drawn: Drawn = {}
    if svg := figures.dispersion(found.traces):
        drawn["findings-dispersion"] = svg
    sections = [_section(one, drawn, rng) for one in found.traces]
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    text = environment.from_string(TEMPLATE.read_text()).render(
        versions=", ".join(f"{name} {version}" for name, version in versions().items() if name in SHOWN),
        summary=markdown([_summary(one) for one in found.traces]),
        counted=_counted(found),
        sections=sections,
        conversation=next((_conversation(one, drawn, rng) for one in found.traces if one.file == DRIFTING), None),
        arena=next((_arena(one) for one in found.traces if one.file == ARENA), None),
        same=found.same,
        clients=markdown([_clients(*item) for item in found.clients.items()]) if found.clients else "",
        refused=found.refused,
        figures=sorted(drawn),
        burst={one.file: _burst(one) for one in found.traces},
    )
    return text, drawn


SHOWN = ("python", "trace-toolkit", "polars", "numpy")


def _counted(found: "Findings") -> dict[str, float]:
    """What came of all questions together."""
    rows = pl.concat(
        [one.tables["drift"]["summary"].select("column", "verdict", "p_value", "false_alarm") for one in found.traces]
    )
    tested = rows.filter(pl.col("p_value").is_not_null())
    groups = [t["summary"].row(0, named=True) for one in found.traces for t in _asked(one)]
    return {
        "traces": len(found.traces),
        "series": tested.height,
        "by_chance": float(tested["false_alarm"].sum()),
        "drifting": tested.filter(pl.col("verdict") == "drift").height,
        "grouped": len(groups),
        "groups": sum(g["verdict"] == "groups" for g in groups),
    }


def _asked(one: "Finding") -> list[dict[str, pl.DataFrame]]:
    every = [one.tables["groups"], *([one.tenants] if one.tenants else [])]
    return [t for t in every if t["summary"].height and t["summary"]["window_s"][0] is not None]


def _summary(one: "Finding") -> dict[str, object]:
    about = words.first(one.tables["arrivals"]["summary"])
    spread = words.dispersion(one)
    drift = {r["column"]: _mark(r) for r in one.tables["drift"]["summary"].to_dicts()}
    asked = [t["summary"]["verdict"][0] for t in _asked(one)]
    return {
        "trace": f"[{one.folder} / {one.file}](#{anchor(one)})",
        "requests": one.info.rows_kept,
        "span": seconds(one.info.span_s),
        "models / tenants": " / ".join(number(words.names(one, c)) for c in ("model", "tenant")),
        "gap CV": None if about is None else about["gap_cv"],
        "variance ÷ mean, 60 s": None if spread is None else spread["index"],
        "prompt P50 / P99": _two(one, "prompt_tokens"),
        "output P50 / P99": _two(one, "output_tokens"),
        "groups": "–" if not asked else "none" if set(asked) == {"none"} else "**yes**",
        "prompts drift": drift.get("prompt_tokens", "–"),
        "outputs drift": drift.get("output_tokens", "–"),
        "mix drifts": ", ".join(f"{c}: {drift[c]}" for c in ("model", "tenant", "kind") if c in drift) or "–",
    }


def _mark(row: dict[str, Any]) -> str:
    if row["p_value"] is None:
        return "too few"
    if row["verdict"] == "none":
        return "no"
    parts = f"in {row['strata_changed']} part{'s' * (row['strata_changed'] > 1)}" if row["strata_changed"] else ""
    return f"**yes**, {' and '.join(filter(None, [str(row['change_points'] or ''), parts]))}"


def _burst(one: "Finding") -> tuple[str, str]:
    """Gap CV and variance ÷ mean of counts a minute."""
    about, spread = words.first(one.tables["arrivals"]["summary"]), words.dispersion(one)
    return number(about and about["gap_cv"]), number(spread and spread["index"])


def _two(one: "Finding", column: str) -> str:
    row = words.first(one.tables["lengths"]["summary"].filter(pl.col("column") == column))
    return "–" if row is None or not row["requests"] else f"{number(row['p50'])} / {number(row['p99'])}"


def anchor(one: "Finding") -> str:
    """The heading's anchor on a git host."""
    kept = "".join(c for c in f"{one.folder} / {one.file}".lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _section(one: "Finding", drawn: Drawn, rng: np.random.Generator) -> dict[str, Any]:
    """One trace's part of the page."""
    drifting = one.tables["drift"]["change_points"]["column"].unique(maintain_order=True).to_list()
    shown = []
    for column in ("prompt_tokens", "output_tokens"):
        if column in drifting and one.file != DRIFTING and one.info.rows_kept >= DRAWN:
            name = f"findings-{one.key}-{column.partition('_')[0]}"
            drawn[name] = figures.over_time(one, column)
            shown.append((name, f"{words.name_of(column)} tokens over time"))
    rows, changes = words.drift_rows(one), words.point_rows(one)
    return {
        "title": f"{one.folder} / {one.file}",
        "what": words.what(one),
        "bursts": words.bursts(one),
        "lengths": words.lengths(one),
        "more": list(words.more(one)),
        "groups": list(words.group_words(one)),
        "drift": markdown(rows) if rows else "No series to test.",
        "changes": markdown(changes) if changes else "",
        "causes": list(words.causes(one, rng)),
        "peaks": words.peaks(one),
        "missing": words.not_found(one),
        "figures": shown,
    }


def _conversation(one: "Finding", drawn: Drawn, rng: np.random.Generator) -> dict[str, Any]:
    """The low episode between the largest fall and the largest rise of the median, against the rest."""
    for column in ("output_tokens", "prompt_tokens"):
        drawn[f"findings-conversation-{column.partition('_')[0]}"] = figures.over_time(one, column)
    drawn["findings-conversation-shares"] = figures.shares(one)
    changes = words.points(one, "output_tokens")
    fall, rise = (changes.sort("ratio", descending=d).row(0, named=True) for d in (False, True))
    ids = one.frame["request_id"].to_numpy()
    low = (ids >= fall["request_id"]) & (ids < rise["request_id"])
    bins = []
    for groups in (4, 8, 16, 32, 64):
        by = strata(one.frame, "prompt_tokens", groups)
        assert by is not None
        bins.append({"prompt bins": groups, "part of the mix": words.interval(split(one.frame, ~low, low, by, rng))})
    outputs = one.frame["output_tokens"].to_numpy()
    calm = words.first(one.tables["drift"]["summary"].filter(pl.col("column") == "prompt_tokens"))
    return {
        "fall": words.when(fall),
        "rise": words.when(rise),
        "lasts": seconds(rise["time_s"] - fall["time_s"]),
        "requests": f"{int(low.sum()):,}",
        "of": f"{len(ids):,}",
        "inside": number(float(np.median(outputs[low]))),
        "outside": number(float(np.median(outputs[~low]))),
        "mean_inside": number(float(outputs[low].mean())),
        "mean_outside": number(float(outputs[~low].mean())),
        "points": markdown([r for r in words.point_rows(one) if r["of"] == "output"]),
        "bins": markdown(bins),
        "strata": markdown(_strata(one, low)),
        "prompt_p": number(calm["p_value"]) if calm else "–",
        "alarms": markdown(_alarms(one)),
        "estimates": markdown(_estimates(one)),
        **_moved(one, low),
        **_predicted(one, low, fall["request_id"]),
    }


def _strata(one: "Finding", low: np.ndarray) -> list[dict[str, object]]:
    """Each prompt length's share and outputs outside and inside the episode."""
    by = strata(one.frame, "prompt_tokens")
    assert by is not None
    outputs, rows = one.frame["output_tokens"].to_numpy(), []
    for code, label in enumerate(by.labels):
        here = by.codes == code
        medians = [float(np.median(outputs[here & side])) for side in (~low, low)]
        part = [float((here & side).sum() / side.sum()) for side in (~low, low)]
        rows.append(
            {
                "prompt tokens": label,
                "share outside": percent(part[0]),
                "share inside": percent(part[1]),
                "output P50 outside": medians[0],
                "output P50 inside": medians[1],
            }
        )
    return rows


def _moved(one: "Finding", low: np.ndarray) -> Drawn:
    """The prompt lengths whose median output differs by a sixth and more in the episode, and the others."""
    rows = _strata(one, low)
    ratio = [float(str(r["output P50 inside"])) / float(str(r["output P50 outside"])) for r in rows]
    held = [str(r["prompt tokens"]) for r, x in zip(rows, ratio, strict=True) if 5 / 6 < x < 6 / 5]
    moved = [str(r["prompt tokens"]) for r in rows if r["prompt tokens"] not in held]
    return {"held": ", ".join(held), "moved": ", ".join(moved)}


def _predicted(one: "Finding", low: np.ndarray, until: int) -> Drawn:
    """Mean absolute error in the episode of two medians learned before it: of all, and of each prompt length."""
    by = strata(one.frame, "prompt_tokens", 32)
    assert by is not None
    known = pl.DataFrame({"bin": by.codes, "tokens": one.frame["output_tokens"], "low": low})
    learned = known.filter(one.frame["request_id"] < until)
    each = learned.group_by("bin").agg(estimate=pl.col("tokens").median())
    told = known.filter("low").join(each, on="bin", how="left")
    constant = learned["tokens"].median()
    errors = told.select(
        (pl.col("tokens") - constant).abs().mean().alias("constant"),
        (pl.col("tokens") - pl.col("estimate")).abs().mean().alias("by_prompt"),
    )
    return {name: number(float(errors[name][0])) for name in errors.columns}


def _estimates(one: "Finding") -> list[dict[str, object]]:
    """DriftSched's question: errors of estimators that learned from the first tenth, static and calibrated."""
    every = one.tables["drift"]["estimate"].filter(pl.col("by") == "all", pl.col("estimator") != "noisy oracle")
    return [{k: r[k] for k in ("estimator", "calibration", "bias", "mae", "rmse")} for r in every.to_dicts()]


def _alarms(one: "Finding") -> list[dict[str, object]]:
    """When each online detector saw the fall and how often it cried before it."""
    alarms = one.tables["drift"]["alarms"].filter(pl.col("column") == "output_tokens")
    rows: list[dict[str, object]] = []
    for (detector,), part in alarms.group_by("detector", maintain_order=True):
        after = words.first(part.filter(pl.col("delay_requests").is_not_null()))
        rows.append(
            {
                "detector": detector,
                "alarms before the first change": part["delay_requests"].null_count(),
                "first alarm after it": "–"
                if after is None
                else f"{after['delay_requests']:,} requests, {seconds(after['delay_s'])}",
                "alarms in all": part.height,
            }
        )
    return rows


def _arena(one: "Finding") -> str:
    prism = one.tables["groups"]["prism"].row(0, named=True)
    return markdown(
        [
            {"measure": what, "here": prism[name], "earlier, by hand": earlier, "the paper, of its own traces": paper}
            for name, (what, earlier, paper) in EARLIER.items()
        ]
    )


def _clients(name: str, clients: list["Client"]) -> dict[str, object]:
    """ServeGen's parameters in aggregate: who sends how much, and who makes the peaks."""
    rates = np.stack([c.windows["rate_per_s"].to_numpy() for c in clients])
    cvs = np.stack([c.windows["gap_cv"].fill_null(0).fill_nan(0).to_numpy() for c in clients])
    window_s = float(clients[0].windows["start_s"][1] - clients[0].windows["start_s"][0])
    each, whole = np.sort(rates.sum(1))[::-1], rates.sum(0)
    peak = int(whole.argmax())
    excess = np.sort(np.maximum(rates[:, peak] - rates.mean(1), 0))[::-1]
    busy = rates > 0
    return {
        "parameters": name,
        "clients": len(clients),
        "span": seconds(window_s * rates.shape[1]),
        "requests/s": float(whole.mean()),
        "first": percent(each[0] / each.sum()),
        "first ten": percent(each[:10].sum() / each.sum()),
        "peak ÷ mean": float(whole[peak] / whole.mean()),
        "clients for half of the peak": int(np.searchsorted(np.cumsum(excess), excess.sum() / 2) + 1),
        "gap CV P50 (by requests)": _weighted(cvs[busy], rates[busy]),
        "requests in windows of CV > 1.5": percent(float(rates[busy & (cvs > 1.5)].sum() / rates.sum())),
    }


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])
