"""How placements do on bursty traffic: the attainment of TTFT and TPOT objectives in four cases, over seeds.

    python -m benchmarks.placements [--seeds N] [--work FOLDER] [--save]

Each model is asked for a share of the time, in stretches of so many seconds on average (`on-off` streams); popularity
falls as 1/rank, prompts and outputs are lognormal, medians 400 and 150 tokens. Objectives are 1 s TTFT and 60 ms TPOT,
15 minutes of traffic, H100s of 80 GB, first come first served. ρ is the GPU time the requests take with every model by
itself over what the GPUs have.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.machine import facts
from benchmarks.reproductions.prism_runs import table
from benchmarks.reproductions.prism_studies import Study
from benchmarks.reproductions.prism_tables import attained, policy
from benchmarks.reproductions.tables import markdown, over_seeds

RESULTS = Path(__file__).parent / "results"
SPAN_S = 900.0
EIGHT_B = "llama-3.1-8b"
PLACEMENTS = (
    *("static:kv=rate", "muxserve++", "serverlessllm", "qlm", "lru", "prism", "prism:kvpr=after", "prism-code"),
    *("cost-aware", "foresight"),
)


@dataclass(frozen=True)
class Case:
    """Models by popularity, the most popular first; each is asked for a `share` of the time, `stretch_s` at a time."""

    said: str
    models: Sequence[str]
    gpus: int
    per_s: float
    share: float = 0.2
    stretch_s: float = 120.0
    cluster: dict[str, Any] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        hosted = [
            {"name": f"m{n}", "preset": preset, "slo_ttft_s": 1.0, "slo_tpot_s": 0.06}
            for n, preset in enumerate(self.models)
        ]
        cluster = {"gpus": [{"type": "h100", "count": self.gpus}], "models": hosted, **self.cluster}
        workload = {"name": "on-off", "span_s": SPAN_S, "streams": self._streams()}
        return Study(self.said, cluster, {"placements": list(PLACEMENTS)}, workload)

    def _streams(self) -> list[dict[str, Any]]:
        shares = [1 / (rank + 1) for rank in range(len(self.models))]
        return [
            {
                "name": f"m{n}",
                "models": f"m{n}",
                "generator": "on-off",
                "rate_per_s": self.per_s * share / sum(shares) / self.share,  # while it is asked for
                "on_s": self.stretch_s,
                "off_s": self.stretch_s * (1 - self.share) / self.share,
                "prompt_tokens": {"median": 400, "sigma": 1.0, "maximum": 4096},
                "output_tokens": {"median": 150, "sigma": 0.8, "maximum": 1024},
            }
            for n, share in enumerate(shares)
        ]


CASES = (
    Case("8 models, 2 GPUs, 20 requests/s", [EIGHT_B] * 8, 2, 20.0),
    Case("20 models, 4 GPUs, 16/s", [EIGHT_B] * 16 + ["llama-3.2-3b"] * 4, 4, 16.0),
    Case("12 models, 2 GPUs, 8/s", ["qwen2.5-14b", EIGHT_B, "llama-3.2-3b"] * 4, 2, 8.0),
    Case("12 models, 1 GPU, 0.6/s, slow loads", [EIGHT_B] * 12, 1, 0.6, 0.05, 30.0, {"loading": "naive"}),
)


def rows_of(found: dict[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """A row a placement: TTFT / TPOT attainment in per cent in each case; ρ above."""
    head = {"placement": "load ρ"} | {said: f"{rows['utilisation'].mean():.2f}" for said, rows in found.items()}
    rows: list[dict[str, Any]] = [head]
    for placement in PLACEMENTS:
        row = {"placement": f"`{placement}`"}
        for said, all_rows in found.items():
            mine = all_rows.filter(pl.Series([policy(r) == placement for r in all_rows.iter_rows(named=True)]))
            row[said] = _both(mine)
        rows.append(row)
    return rows


def _both(rows: pl.DataFrame) -> str:
    ttft, tpot = (rows[f"attainment_{name}"].drop_nulls().to_list() for name in ("ttft", "tpot"))
    return f"{attained(over_seeds(ttft))} / {attained(over_seeds(tpot))}" if ttft else "refused: not all fit"


def main() -> None:
    """Print the table; with --save also write it beside this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placements", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder in which replays are kept, to go on with later")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}/placements.md")
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(CASES):
            axes = {**case.study.axes, "seeds": list(range(given.seeds))}
            found[case.said] = table(case.study, (given.work or Path(scratch)) / f"case-{number}", axes, None)
    text = markdown(rows_of(found))
    print(text)
    if given.save:
        title, _, purpose = (__doc__ or "").partition("\n")
        about = "; ".join(f"{key} {value}" for key, value in facts().items() if key != "load when begun")
        head = f"# {title.rstrip('.')}\n{purpose}\n{given.seeds} seeds, ± 95 %; {about}.\n\n"
        (RESULTS / "placements.md").write_text(f"{head}{text}\n")


if __name__ == "__main__":
    main()
