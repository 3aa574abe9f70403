"""Which scheduler for which traffic: docs/which-scheduler.md and its maps.

    python -m benchmarks.reproductions.which_scheduler [--traces FOLDER] [--seeds 5] [--requests 4000] [--quick]

A policy is best in a cell when its mean over the windows or seeds is smallest; whoever is not worse by a paired 95 %
t-interval is no worse beyond chance. Where nobody beats FCFS by WORTHWHILE, FCFS is the choice.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from benchmarks.machine import facts
from benchmarks.reproductions import drawing, which_runs
from benchmarks.reproductions.map_drawing import grid
from benchmarks.reproductions.replaying import rows_of_all
from benchmarks.reproductions.tables import change, markdown, over_seeds

PAGE = Path("docs/which-scheduler.md")
FIGURES = Path("docs/papers/figures")
AIMS = {"e2e_mean": "mean E2E", "e2e_p99": "P99 of E2E", "ttft_p99": "P99 of TTFT"}
PRICES = {"e2e_mean": "e2e_p99", "e2e_p99": "e2e_mean", "ttft_p99": "e2e_mean"}  # what a gain in each may cost
COMMAND = "make which-scheduler"
KEYS = ("traffic", "memory", "load")
WORTHWHILE = 0.02  # what is gained in a model's step times by less than this is not worth a policy


@dataclass(frozen=True)
class Verdict:
    """One cell under one aim: the winner, the runner-up, and by how much it is worse."""

    winner: str
    runner_up: str
    margin: float
    ties: tuple[str, ...]
    against_fcfs: float
    oracle: float  # the better oracle against the winner; negative: better
    price: float  # of the winner against FCFS, in what it does not aim at

    @property
    def choice(self) -> tuple[str, str]:
        """What to run, and in a few words why."""
        if self.against_fcfs > -WORTHWHILE:
            return "fcfs", "nobody gains 2 %"
        gain = f"{100 * self.against_fcfs:+.0f} %, price {100 * self.price:+.0f} %"
        return self.winner, f"{gain}; {self.runner_up} {100 * self.margin:+.0f} %"


def verdict(cell: pl.DataFrame, aim: str) -> Verdict:
    """Judge the policies of one cell that need no oracle, and then the oracles."""
    samples = {
        name: part.sort("seed")[aim].to_list() for (name,), part in cell.partition_by("policy", as_dict=True).items()
    }
    fair = sorted((n for n in samples if n not in which_runs.ORACLES), key=lambda n: over_seeds(samples[n]).mean)
    best = samples[fair[0]]
    ties = [name for name in fair[1:] if not change(samples[name], best).low > 0]
    means = {name: over_seeds(values).mean for name, values in samples.items()}
    other = cell.group_by("policy").agg(pl.col(PRICES[aim]).mean())
    paid = dict(zip(other["policy"], other[PRICES[aim]], strict=True))
    oracle = min(means[name] for name in which_runs.ORACLES) / means[fair[0]] - 1
    margin = means[fair[1]] / means[fair[0]] - 1
    return Verdict(
        fair[0],
        fair[1],
        margin,
        tuple(ties),
        means[fair[0]] / means["fcfs"] - 1,
        oracle,
        paid[fair[0]] / paid["fcfs"] - 1,
    )


def verdicts(found: pl.DataFrame, aim: str) -> dict[tuple[str, str, float], Verdict]:
    """Every cell's, in the order of the sweep."""
    parts = found.partition_by(*KEYS, as_dict=True, maintain_order=True)
    return {(str(t), str(m), float(load)): verdict(part, aim) for (t, m, load), part in parts.items()}


def figure(judged: dict[tuple[str, str, float], Verdict], aim: str) -> str:
    """The map of one aim."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for (traffic, memory, _), one in judged.items():
        rows.setdefault(f"{traffic}, {memory}", []).append(one.choice)
    return grid(
        f"Best {AIMS[aim]} without an oracle",
        [f"ρ {load:g}" for load in which_runs.LOADS],
        rows,
        list(which_runs.POLICIES),
    )


def table(judged: dict[tuple[str, str, float], Verdict], aim: str) -> str:
    """One row a cell."""
    return markdown(
        [
            {
                "traffic": traffic,
                "memory": memory,
                "ρ": load,
                "best": one.winner,
                "against fcfs": f"{100 * one.against_fcfs:+.0f} %",
                f"its price in {AIMS[PRICES[aim]]}": f"{100 * one.price:+.0f} %",
                "runner-up": f"{one.runner_up} ({100 * one.margin:+.0f} %)",
                "no worse beyond chance": ", ".join(one.ties) or "–",
                "best oracle against best": f"{100 * one.oracle:+.0f} %",
            }
            for (traffic, memory, load), one in judged.items()
        ]
    )


def errors_table(found: pl.DataFrame) -> str:
    """For each cell: the best policy without predictions, and SJF's and SRPT's mean E2E against it by error."""
    rows = []
    for (traffic, memory, load), part in found.partition_by(*KEYS, as_dict=True, maintain_order=True).items():
        means = dict(part.group_by("policy").agg(pl.col("e2e_mean").mean()).iter_rows())
        free = min(which_runs.PREDICTION_FREE, key=lambda name: means[name])
        against = {name: f"{100 * (means[name] / means[free] - 1):+.0f} %" for name in means}
        row = {"traffic": traffic, "memory": memory, "ρ": load, "best without": f"{free} (fcfs {against['fcfs']})"}
        for error in which_runs.ERRORS:
            row[error] = f"{against[f'sjf, {error}']} / {against[f'srpt, {error}']}"
        rows.append(row)
    return markdown(rows)


def wins(judged: dict[tuple[str, str, float], Verdict]) -> str:
    """How often each policy wins, or is no worse than the winner beyond chance."""
    names = [name for name in which_runs.POLICIES if name not in which_runs.ORACLES]
    counted = [
        {
            "policy": name,
            "choice": sum(one.choice[0] == name for one in judged.values()),
            "best": sum(one.winner == name for one in judged.values()),
            "best or no worse": sum(name in (one.winner, *one.ties) for one in judged.values()),
        }
        for name in names
    ]
    return markdown(sorted(counted, key=lambda row: (-int(row["choice"]), -int(row["best or no worse"]))))  # type: ignore[call-overload]


def page(found: pl.DataFrame, errors: pl.DataFrame, seeds: int) -> str:
    """The whole page."""
    parts = [INTRODUCTION.format(**_setting(found, seeds)), READING]
    for aim, name in AIMS.items():
        judged = verdicts(found, aim)
        parts += [
            f"## {name}",
            "",
            f"![{name}: the best policy by traffic and load](papers/figures/which-{aim}.svg)",
            "",
        ]
        parts += [f"Of {len(judged)} cells:", "", wins(judged), ""]
        parts += ["<details><summary>Every cell</summary>", "", table(judged, aim), "", "</details>", ""]
    parts += [ERRORS.format(table=errors_table(errors))]
    return "\n".join(parts)


def _setting(found: pl.DataFrame, seeds: int) -> dict[str, object]:
    return {
        "command": COMMAND,
        "seeds": seeds,
        "requests": f"{found['requests'].max():,}",
        "gpu": which_runs.GPU.upper(),
        "model": which_runs.MODEL,
        "tight": f"{100 * which_runs.MEMORY['tight']:.0f} %",
        "versions": ", ".join(f"{k} {v}" for k, v in facts().items() if k in ("python", "numba", "numpy")),
        "specs": "\n".join(f"- {name}: `{spec}`" for name, spec in which_runs.POLICIES.items()),
    }


INTRODUCTION = """# Which scheduler for which traffic

Written by `{command}`. One {gpu} with {model} on the simulated engine (roofline step times, continuous batching,
decodes first, no prefix cache, what is preempted is computed again); memory is all KV blocks that the weights leave
(rich) or {tight} of them (tight). Each cell is the mean over {seeds} windows of a real trace, stretched in time to the
load, or {seeds} seeds of generated traffic; at most {requests} requests each. ρ is the time the requests take when all
are offered at once, over their span. FCFS stands in every cell. Step times are a model's: read directions, not digits,
and replay your own trace.

The maps show the best policy that needs no oracle: predictions have a log error of σ 0.5, a multiplicative error of
about 1.65 either way. Below it stand its change against FCFS and the price of it (against FCFS too: of P99 E2E in the
first map, of mean E2E in the others), then the runner-up and how much worse that is. Where nobody gains 2 % over FCFS,
FCFS is the choice. What an exact prediction would add is in the tables.

{specs}
"""


READING = """## In short

What this sweep says, at its settings; the numbers are in the tables below.

- **With load below 0.9 and memory to spare, keep FCFS**: nobody gains 2 % in mean or tail of E2E but on the code trace.
- **Otherwise order what waits, and let what runs run.** For the mean, SJF with rough predictions (σ 0.5) or, without
  any, DistBoost, which orders by the boost of the prompt. SJF's predictions may be bad (σ 2 still gains), but not
  against the truth, and not of the prompt's size alone.
- **Where prompts vary and outputs do not (code), DistBoost** is ahead even of exact output lengths: there the prefill
  is the work.
- **For P99 of E2E nobody is much better than FCFS**: DistBoost and UniBoost's MemGuard by up to 8 %. SJF and SRPT pay
  for their mean there, SRPT with exact lengths the most.
- **Displacing buys first tokens and little else** while what is displaced is computed again: LAS and Gittins cut P99
  TTFT by nine tenths where memory is short, and the price in mean E2E stands beside it. SRPT, TRAIL and LTR are never
  the choice in this sweep: the prompts they compute again cost more than their order gains. Swapping KV to the host, or
  memory for every prompt, changes that: replay with `--swap-bytes-per-s` before you rule them out.
"""

ERRORS = """## How good must predictions be?

Mean E2E of SJF / SRPT with lengths predicted by each error, against the best policy that needs no predictions. σ is the
standard deviation of the log error; "class mean" knows only the octave of the prompt; "adversarial" takes the longest
for the shortest.

{table}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write docs/which-scheduler.md and its maps.")
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    every = which_runs.cells(given.traces, given.seeds, given.requests)
    errors = rows_of_all(which_runs.run, which_runs.error_cells(every), given.workers, _report)
    found = rows_of_all(which_runs.run, every, given.workers, _report)
    for aim in AIMS:
        drawing.write(given.out / FIGURES / f"which-{aim}.svg", figure(verdicts(found, aim), aim))
    (given.out / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (given.out / PAGE).write_text(page(found, errors, given.seeds))


def _report(done: int, total: int) -> None:
    print(f"\r{done} of {total} cells", end="" if done < total else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
