"""Power and honesty of `trace analyze --groups` on planted traffic: python -m benchmarks groups [--traces N]

Groups: 4 groups of 5 and 10 loners over 24 hours, a group with 3 bursts an hour of 2 minutes, in which a member sends
12 requests with probability 0.8; half of its requests come outside bursts; one thing is varied at a time. Agreement is
the adjusted Rand index (ARI) of the groups found with those planted, loners each on their own, at 99 instants. Group
free: 30 models over two days, Poisson, gamma (CV 1.5 to 5) or in bursts of their own, 30 to 10,000 requests a day.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.machine import TRACE, facts, made_apart, spent
from benchmarks.planted import Planted, Setting, group_free, planted
from toolkit.analysis.groups import Groups
from toolkit.traces import TraceInfo

RESULTS = Path(__file__).parent / "results"
USUAL = Setting()
VARIED: dict[str, list[Any]] = {
    "background": [0.2, 0.5, 0.8, 0.9, 0.95, 0.98],
    "jitter_s": [5.0, 20.0, 60.0, 120.0, 180.0, 300.0, 600.0],
    "participation": [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2],
    "hours": [3.0, 6.0, 12.0, 24.0, 72.0],
    "diurnal": [0.0, 0.8],
}
CHANGED = (1, 4, 8, 12)
KINDS = ("independent", "diurnal", "swings")
ROWS, MODELS, DAYS = 10_000_000, 100, 7


def ask(made: Planted) -> dict[str, pl.DataFrame]:
    """The tables of the analysis; models are named by their number."""
    names = pl.Series("model", made.model).cast(pl.String).cast(pl.Categorical)
    nobody = pl.lit(None, dtype=pl.String)
    frame = pl.DataFrame({"arrival_s": made.arrival_s, "model": names}).with_columns(tenant=nobody)
    return Groups().run(frame, TraceInfo("planted", "planted", "", frame.height, frame.height))


def ari(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Adjusted Rand index of two labellings; −1 is a name on its own."""
    a, b = (np.unique(alone(each), return_inverse=True)[1] for each in (a, b))
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    together, rows, columns = ((x * (x - 1) / 2).sum() for x in (table, table.sum(axis=1), table.sum(axis=0)))
    chance, most = rows * columns / (len(a) * (len(a) - 1) / 2), (rows + columns) / 2
    return 1.0 if most == chance else float((together - chance) / (most - chance))


def alone(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)


def at(tables: dict[str, pl.DataFrame], time_s: float, models: int) -> NDArray[np.int64]:
    """Each model's group at a time, by the groups' intervals."""
    labels = np.full(models, -1)
    live = tables["intervals"].filter((pl.col("start_s") <= time_s) & (pl.col("end_s") > time_s))["id"]
    for i, names in enumerate(tables["groups"].filter(pl.col("id").is_in(live.to_list()))["names"].to_list()):
        labels[[int(name) for name in names]] = i
    return labels


def over_time(made: Planted, tables: dict[str, pl.DataFrame]) -> float:
    """Mean ARI at 99 instants."""
    span_s = float(made.arrival_s[-1])
    instants = np.linspace(0.01, 0.99, 99) * span_s
    changed = made.change_s if made.change_s is not None else np.inf
    truth = [made.label if t < changed else made.label_after for t in instants]
    return float(np.mean([ari(one, at(tables, t, len(one))) for one, t in zip(truth, instants, strict=True)]))


def power(traces: int) -> Iterator[dict[str, Any]]:
    """A row for each setting: agreement over time, its worst trace, and how many traces gave groups."""
    for name, values in VARIED.items():
        for value in values:
            yield {"varied": name, "value": value, **agreement(replace(USUAL, **{name: value}), traces)}
    for moved in CHANGED:
        yield {"varied": "moved", "value": moved, **agreement(replace(USUAL, moved=moved), traces)}


def agreement(setting: Setting, traces: int) -> dict[str, Any]:
    found = []
    for seed in range(traces):
        made = planted(setting, 100 + seed)
        tables = ask(made)
        found.append((over_time(made, tables), tables["summary"]["verdict"][0] == "groups"))
    scores = [score for score, _ in found]
    return {"ari": float(np.mean(scores)), "worst": min(scores), "with_groups": sum(g for _, g in found)}


def honesty(traces: int) -> Iterator[dict[str, Any]]:
    """Group-free traces that gave a group, and what the power was said to be."""
    for kind in KINDS:
        answers = [ask(group_free(kind, 5_000 + seed))["summary"].row(0, named=True) for seed in range(traces)]
        false = sum(answer["verdict"] == "groups" for answer in answers)
        yield {
            "kind": kind,
            "traces": traces,
            "with_groups": false,
            "power_group": float(np.mean([answer["power_group"] for answer in answers])),
        }


def speed() -> dict[str, Any]:
    """`trace analyze` with and without --groups on ROWS rows of MODELS models over a week, as Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "week.parquet"
        made_apart(write_week, path)
        without = spent([*TRACE, "analyze", path, "--json"])
        asked = spent([*TRACE, "analyze", path, "--json", "--groups"])
    row = {"rows": ROWS, "models": MODELS, "without_s": without.wall_s, "with_s": asked.wall_s}
    return row | {"without_cpu_s": without.cpu_s, "with_cpu_s": asked.cpu_s, "peak_gb": asked.peak_bytes / 1e9}


def write_week(path: Path) -> None:
    """Zipf models under a strong day."""
    rng = np.random.default_rng(1)
    share = np.arange(1, MODELS + 1) ** -0.9
    time_s = rng.random(ROWS) * DAYS * 86_400
    time_s = np.sort(time_s + 10_800 * np.sin(2 * np.pi * time_s / 86_400))
    names = pl.Series([f"model-{i:03d}" for i in range(MODELS)])
    model = names.gather(rng.choice(MODELS, ROWS, p=share / share.sum()))
    tokens = rng.integers(1, 2_000, (2, ROWS)).astype(np.int32)
    columns = {"arrival_s": time_s - time_s[0], "model": model, "prompt_tokens": tokens[0], "output_tokens": tokens[1]}
    pl.DataFrame(columns).write_parquet(path)


def markdown(found: dict[str, Any]) -> str:
    about, s, of = found["facts"], found["speed"], found["traces"]
    made = f"Made by `python -m benchmarks groups` on {about['date']}, {about['cores']} cores, {about['processor']}."
    lines = ["# Groups: power and honesty", "", made, "", str(__doc__).split("\n", 2)[2].strip(), ""]
    lines += ["| varied | value | ARI, mean | worst | traces with groups |", "|---|---|---|---|---|"]
    for r in found["power"]:
        scores = f"{r['ari']:.2f} | {r['worst']:.2f}"
        lines.append(f"| {r['varied']} | {r['value']} | {scores} | {r['with_groups']} of {of} |")
    lines += ["", "`moved`: so many of the 20 members go to the next group at half time.", ""]
    lines += ["| group-free traffic | traces | that gave a group | power said (four models, half of bursts shared) |"]
    lines += ["|---|---|---|---|"]
    for r in found["honesty"]:
        lines.append(f"| {r['kind']} | {r['traces']} | {r['with_groups']} | {r['power_group']:.2f} |")
    lines += ["", f"{s['rows']:,} rows, {s['models']} models, a week; load when begun {about['load when begun']}:"]
    without = f"`trace analyze` {s['without_s']:.1f} s ({s['without_cpu_s']:.1f} s of processor time)"
    asked = f"with `--groups` {s['with_s']:.1f} s ({s['with_cpu_s']:.1f} s) and {s['peak_gb']:.2f} GB at the most."
    return "\n".join([*lines, f"{without}, {asked}", ""])


def shown(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each said when it is there."""
    found = []
    for row in rows:
        print(row, file=sys.stderr, flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Power and honesty of the groups analysis.")
    parser.add_argument("--traces", type=int, default=5, help="a setting with groups")
    parser.add_argument("--free", type=int, default=200, help="a kind without")
    parser.add_argument("--speed-only", action="store_true", help="measure the speed anew, keep the rest")
    given = parser.parse_args()
    if given.speed_only:
        found = json.loads((RESULTS / "groups.json").read_text()) | {"facts": facts(), "speed": speed()}
    else:
        found = {"facts": facts(), "traces": given.traces, "speed": speed()}
        found |= {"power": shown(power(given.traces)), "honesty": shown(honesty(given.free))}
    (RESULTS / "groups.md").write_text(markdown(found))
    (RESULTS / "groups.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
