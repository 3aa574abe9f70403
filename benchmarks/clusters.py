"""What a replay on a cluster takes: by placement, and as requests, models and GPUs grow.

    python -m benchmarks.clusters [--requests N] [--save]

18 models of 3 to 32B on 8 H100, asked for in groups that burst together (prism_studies.bursty), under every placement:
with weights that leave a quarter of the memory, and with weights that do not all fit, under those that load on demand.
Then a tenth of the requests, to fewer and to more models and GPUs. CPU seconds of `trace replay --cluster`, of which
`core` is run.json's simulation_cpu_s: simulating, and all that the placement and the scheduler are asked; `decisions`
is how often the placement was.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import TRACE, facts, spent
from benchmarks.reproductions import prism_studies
from toolkit import plugins

RESULTS = Path(__file__).parent / "results"
PER_GPU_S = 6.0  # requests
AMPLE = ("llama-3.1-8b", "qwen2.5-32b", "llama-2-13b", "gemma-2-9b", "llama-3.2-3b")
SCARCE = ("llama-3.1-8b", "qwen2.5-32b", "llama-2-13b", "qwen2.5-32b", "llama-3.2-3b")
LARGE = ((10, 4), (18, 8), (100, 44), (1_000, 440))  # models, GPUs
GROWING = ("static", "prism", "cost-aware")
OFFLINE = ("static", "muxserve++")  # every model is loaded before the replay
TRIES_ALL = "oracle"  # it replays under thirteen others first
HEADS = ("placement", "memory", "requests", "models", "GPUs", "core CPU s", "command CPU s", "MB", "decisions", "loads")


@dataclass(frozen=True)
class Row:
    """What one replay took."""

    placement: str
    memory: str
    requests: int
    models: int
    gpus: int
    core_s: float
    command_s: float
    peak_mb: float
    decisions: int
    loads: int


@dataclass(frozen=True)
class Case:
    """A cluster and its trace, in files."""

    cluster: Path
    trace: Path
    memory: str
    models: int
    gpus: int


def case(models: int, gpus: int, requests: int, folder: Path, presets: Sequence[str] = AMPLE) -> Case:
    """So many requests to so many models: the load a GPU is the same in all cases."""
    memory = "ample" if presets is AMPLE else "scarce"
    made = folder / f"{memory}-{models}-{gpus}-{requests}"
    made.mkdir()
    hosted = [{"name": f"m{n}", "preset": presets[n % len(presets)]} for n in range(models)]
    rate = PER_GPU_S * gpus
    written = {
        "cluster.yaml": {"gpus": [{"type": "h100", "count": gpus}], "models": hosted},
        "workload.yaml": prism_studies.bursty(models, 2 * requests / rate, rate) | {"requests": requests},
    }
    for name, content in written.items():
        (made / name).write_text(yaml.safe_dump(content, sort_keys=False))
    trace = made / "trace.parquet"
    spent([*TRACE, "generate", made / "workload.yaml", "--out", trace, "--seed", 1])
    return Case(made / "cluster.yaml", trace, memory, models, gpus)


def measure(given: Case, placement: str) -> Row:
    """Replay by the command."""
    with tempfile.TemporaryDirectory() as out:
        command = [*TRACE, "replay", given.trace, "--cluster", given.cluster, "--placement", placement]
        took = spent([*command, "--no-band", "--out", out])
        (path,) = Path(out).glob("*/run.json")
        run: dict[str, Any] = json.loads(path.read_text())
    return Row(
        placement,
        given.memory,
        run["requests"],
        given.models,
        given.gpus,
        core_s=run["simulation_cpu_s"],
        command_s=took.cpu_s,
        peak_mb=took.peak_bytes / 1e6,
        decisions=run["decisions"],
        loads=run["loads"],
    )


def line(row: Row) -> str:
    """A row of the table."""
    cells = (
        row.placement,
        row.memory,
        f"{row.requests:,}",
        f"{row.models:,}",
        str(row.gpus),
        f"{row.core_s:.1f}",
        f"{row.command_s:.1f}",
        f"{row.peak_mb:.0f}",
        f"{row.decisions:,}",
        f"{row.loads:,}",
    )
    return f"| {' | '.join(cells)} |"


def measured(requests: int, folder: Path) -> Iterable[Row]:
    """Every placement; then, with a tenth of the requests, few to a thousand models."""
    all_but_one = [name for name in plugins.BUILTIN["placement"] if name != TRIES_ALL]
    ample = case(18, 8, requests, folder)
    yield from (measure(ample, placement) for placement in all_but_one)
    scarce = case(18, 8, requests, folder, SCARCE)
    yield from (measure(scarce, placement) for placement in all_but_one if placement not in OFFLINE)
    for at in LARGE:
        large = case(*at, requests // 10, folder)
        yield from (measure(large, placement) for placement in GROWING)


def main() -> None:
    """Print the table; with --save also write it beside this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clusters", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests of each replay")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}/clusters.md and .json")
    options = parser.parse_args()
    machine, rows = facts(), []
    head = f"| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|"
    print(head)
    with tempfile.TemporaryDirectory() as folder:
        for row in measured(options.requests, Path(folder)):
            rows.append(row)
            print(line(row), flush=True)
    if options.save:
        about = "; ".join(f"{key} {value}" for key, value in machine.items())
        title = f"# Replays on a cluster\n\n`python -m benchmarks.clusters`: {about}.\n\n"
        said = "Decisions are how often a placement was asked; loads, how often it brought a model's weights.\n"
        text = "\n".join([head, *map(line, rows)])
        (RESULTS / "clusters.md").write_text(f"{title}{text}\n\n{said}")
        found = {"machine": machine, "rows": [asdict(row) for row in rows]}
        (RESULTS / "clusters.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
