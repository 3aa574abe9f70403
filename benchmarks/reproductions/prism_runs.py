"""Runs the sweeps of prism_studies, each in a folder of its own where it goes on when begun again."""

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.reproductions.prism_studies import ARBITER, Study
from replay.sweep.session import run
from toolkit.sweeps import SweepFolder


def results(study: Study, folder: Path, arena: Path | None, *, quick: bool = False) -> pl.DataFrame | None:
    """SWEEP rows of a study, with each arbiter for its placement; None where it needs the Arena trace and has none."""
    if study.workload is None and arena is None:
        return None
    axes = study.axes | (study.quick if quick else {})
    tables = [table(study, folder / study.name, axes, arena)]
    if "schedulers" not in axes:
        for placement, scheduler in ARBITER.items():
            if placement in axes["placements"]:
                only = {**axes, "placements": [placement], "schedulers": [scheduler]}
                tables.append(table(study, folder / f"{study.name}-{placement}", only, arena))
    return pl.concat(tables).unique(
        ["placement", "scheduler", "gpus", "load", "slo_scale_ttft", "seed"], keep="first", maintain_order=True
    )


def table(study: Study, folder: Path, axes: dict[str, Any], arena: Path | None) -> pl.DataFrame:
    """SWEEP rows of one sweep of a study, over `axes`."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep = {"cluster": str(folder / "cluster.yaml"), **axes}
    _write(folder / "cluster.yaml", study.cluster)
    if study.workload is None:
        sweep["trace"] = str(arena)
    else:
        sweep["workload"] = str(folder / "workload.yaml")
        _write(folder / "workload.yaml", study.workload)
    _write(folder / "sweep.yaml", sweep)
    if not run(folder / "sweep.yaml", folder / "out", None):
        raise KeyboardInterrupt
    return SweepFolder.open(folder / "out").table()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
