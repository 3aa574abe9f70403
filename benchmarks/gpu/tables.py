"""From measurements to cost tables with provenance, and a page: what `python -m benchmarks.gpu` wrote, made usable.

python -m benchmarks.gpu.tables FOLDER… [--datasets datasets/measured] [--pages benchmarks/results] [--smoke]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu import page, step_table
from benchmarks.gpu.machine_entry import entry
from benchmarks.gpu.results import Results, read
from replay.cluster.machine import machine_preset
from toolkit.errors import Failure

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them, and say where."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tables", description="Make cost tables.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--datasets", type=Path, default=ROOT / "datasets" / "measured")
    parser.add_argument("--pages", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--smoke", action="store_true", help="take a smoke test, into folders named for it")
    asked = parser.parse_args(arguments)
    try:
        results = read(asked.folders, asked.smoke)
        for path in write(results, asked.datasets, asked.pages):
            print(f"wrote {path}")
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def write(results: Results, datasets: Path, pages: Path) -> list[Path]:
    """A machine, a latency table a model, and the page; each is read again as its user will read it."""
    name = f"smoke-{results.slug}" if results.facts["smoke"] else results.slug
    folder = datasets / name
    folder.mkdir(parents=True, exist_ok=True)
    pages.mkdir(parents=True, exist_ok=True)
    written = [_yaml(folder / "machine.yaml", "A machine", entry(results), results)]
    machine_preset(str(written[0]))
    off = {}
    for model in sorted({line["point"]["model"] for line in results.of("steps")}):
        lines = list(results.of("steps", model=model))
        what = f"Step times of a random Llama of the shape {model} in --engine transformers, for --latency table:FILE"
        path = _yaml(folder / f"latency-{model}.yaml", what, step_table.table(lines), results)
        off[model] = step_table.errors(str(path), lines)
        written.append(path)
    shown = pages / f"gpu-{name}.md"
    shown.write_text(page.page(results, off))
    return [*written, shown]


def _yaml(path: Path, what: str, content: dict[str, Any], results: Results) -> Path:
    """With where it comes from, in comments."""
    said = f"# {what}: {results.said}.\n# Made by python -m benchmarks.gpu.tables of what make gpu measured.\n"
    if results.facts["smoke"]:
        said += "# A SMOKE TEST with tiny models on a CPU: these are no measurements.\n"
    path.write_text(said + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))
    return path


if __name__ == "__main__":
    sys.exit(main())
