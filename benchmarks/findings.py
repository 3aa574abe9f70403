"""`make findings`: what every readable trace of a folder holds, written into docs/findings.md with its figures.

python -m benchmarks.findings [--traces FOLDER] [--out FOLDER]

Files of the folder that hold the lengths of an earlier one again are named, not analysed twice; what no loader reads is
listed with the reason. Only aggregates are written.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.findings_page import page
from benchmarks.reproductions.drawing import write
from toolkit.analyses import Tables, analyse
from toolkit.analysis.drift import Drift
from toolkit.errors import Failure
from toolkit.traces import Trace, TraceInfo, read_trace
from workloads.generators.servegen_files import Client, read_clients

ROOT = Path(__file__).resolve().parents[1]
NO_DATA = ("README.md", "SHA256SUMS")


@dataclass(frozen=True)
class Finding:
    """One trace: its name in the folder, every analysis' tables, those of groups of tenants, and its lengths."""

    folder: str
    file: str
    info: TraceInfo
    tables: Tables
    tenants: dict[str, pl.DataFrame] | None  # where there are two and more
    frame: pl.DataFrame  # what the drift analysis reads

    @property
    def key(self) -> str:
        return re.sub(r"\W+", "-", f"{self.folder}-{Path(self.file).stem}").lower()


@dataclass
class Findings:
    """Everything that a folder of traces gave."""

    traces: list[Finding]
    same: list[tuple[str, str]]  # a file, and the one that has its lengths already
    clients: dict[str, list[Client]]  # ServeGen's parameters by folder or archive
    refused: dict[str, list[str]]  # reason -> files


def look(root: Path) -> Findings:
    """Read and analyse every file of every folder below `root`."""
    found = Findings([], [], {}, {})
    seen: dict[bytes, str] = {}
    for folder, path in _sources(root):
        name = f"{folder}/{path.relative_to(root / folder)}"
        print(name, file=sys.stderr, flush=True)
        try:
            trace = read_trace([path])
        except Failure as failure:
            _refuse(found, name, path, failure)
            continue
        lengths = trace.frame.select("prompt_tokens", "output_tokens").collect()
        before = seen.setdefault(lengths.fill_null(-1).to_numpy().tobytes(), name)
        if before != name:
            found.same.append((name, before))
            continue
        found.traces.append(_ask(folder, name.partition("/")[2], trace))
    return found


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Files, and subfolders as one trace; a subfolder that holds nothing but folders is entered."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        for path in sorted(folder.iterdir()):
            if path.name in NO_DATA:
                continue
            inside = sorted(path.iterdir()) if path.is_dir() else []
            yield from ((folder.name, p) for p in (inside if inside and all(p.is_dir() for p in inside) else [path]))


def _refuse(found: Findings, name: str, path: Path, failure: Failure) -> None:
    """ServeGen's parameters have a section of their own; of the others the reason, without where it was."""
    try:
        found.clients[name] = read_clients(path)
    except Failure:
        found.refused.setdefault(failure.what, []).append(name)


def _ask(folder: str, file: str, trace: Trace) -> Finding:
    tables = analyse(trace, asked={"groups": {"by": "model"}, "drift": {}, "clients": {}})
    several = tables["popularity"]["tenants"].drop_nulls("tenant").height > 1
    tenants = analyse(trace, asked={"groups": {"by": "tenant"}})["groups"] if several else None
    return Finding(folder, file, trace.info, tables, tenants, trace.frame.select(Drift.columns).collect())


def main() -> None:
    """Look at the folder and write the page and its figures."""
    parser = argparse.ArgumentParser(description="Write docs/findings.md from a folder of public traces.")
    parser.add_argument("--traces", type=Path, default=ROOT.parent / "shared" / "traces", help="folder of folders")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where findings.md and figures/ go")
    arguments = parser.parse_args()
    text, figures = page(look(arguments.traces), np.random.default_rng(0))
    for name, figure in figures.items():
        write(arguments.out / "figures" / f"{name}.svg", figure)
    (arguments.out / "findings.md").write_text(text)


if __name__ == "__main__":
    main()
