"""The run folder: run.json beside Parquet parts that appear whole, one after the other, while the run is going on.

    RUN/run.json                 every setting, the trace's hash, seeds, versions, limits, verdict, state
    RUN/outcomes/part-00000.parquet …   RUN/timeline/…   RUN/events/…   RUN/wire/…   RUN/sensitivity/…
    RUN/checkpoint.npz           only while the run is unfinished

A part is renamed into place after it is complete, so a killed run is continued from its last checkpoint: what was
written is neither repeated nor lost.
"""

import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from toolkit.errors import InputFailure, RunFailure
from toolkit.schema import TABLES, conform

PARTS = ("outcomes", "timeline", "events", "wire", "sensitivity")
NO_RUN_HINT = "name a folder that `trace replay` or `trace convert --run` made"
VERSIONED = ("trace-toolkit", "polars", "numpy", "numba", "duckdb")
VERSIONED_WHERE_INSTALLED = ("aiconfigurator-core",)


@dataclass(frozen=True)
class Run:
    """A run folder on disk. `info` is run.json as it was when the run was opened."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Run":
        try:
            info = orjson.loads((path / "run.json").read_bytes())
        except FileNotFoundError as error:
            raise InputFailure("no run.json in it", where=str(path), hint=NO_RUN_HINT) from error
        except (orjson.JSONDecodeError, OSError) as error:
            raise InputFailure(f"run.json cannot be read ({error})", where=str(path)) from error
        return cls(path, info)

    @property
    def name(self) -> str:
        return str(self.info.get("name") or self.path.name)

    @property
    def finished(self) -> bool:
        return self.info.get("state") == "finished"

    def table(self, name: str) -> pl.LazyFrame:
        """The table (one of PARTS) as far as it is written; no rows where there is no part."""
        parts = sorted((self.path / name).glob("part-*.parquet"))
        if not parts:
            return pl.LazyFrame(schema=TABLES[name])
        return pl.scan_parquet(parts, schema=TABLES[name], missing_columns="insert", glob=False)

    def part_count(self, name: str) -> int:
        return len(list((self.path / name).glob("part-*.parquet")))


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs at `paths`: each is a run folder or a folder of run folders. Duplicates count once."""
    folders: dict[Path, Path] = {}  # by where they really are
    for path in paths:
        if (path / "run.json").is_file():
            folders.setdefault(path.resolve(), path)
            continue
        below = sorted(p.parent for p in path.glob("*/run.json"))
        if not below:
            raise InputFailure("no run.json in it or below", where=str(path), hint=NO_RUN_HINT)
        for folder in below:
            folders.setdefault(folder.resolve(), folder)
    return [Run.open(folder) for folder in folders.values()]


class RunWriter:
    """Writes a run folder. Every file appears whole or not at all."""

    def __init__(self, path: Path, info: dict[str, Any]):
        self.path = path
        self.info = info
        self._next = {name: Run(path, info).part_count(name) for name in PARTS}

    @classmethod
    def create(cls, path: Path, info: dict[str, Any]) -> "RunWriter":
        """Start a run in a folder that holds none yet."""
        if (path / "run.json").exists():
            raise RunFailure("holds a run already", where=str(path), hint="choose another --out, or --resume it")
        writer = cls(path, {"state": "running", "created": _now(), "versions": versions(), **info})
        writer.update()
        return writer

    @property
    def run_id(self) -> str:
        return str(self.info["run_id"])

    def update(self, **changes: Any) -> None:
        """Change entries of run.json."""
        self.info.update(changes)
        self.write_bytes("run.json", orjson.dumps(self.info, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Write `frame` as the table's next part; an empty frame writes nothing."""
        if frame.is_empty():
            return
        marks = {"warm_up": self._warms_up()} if name == "outcomes" else {}
        with_id = frame.with_columns(run_id=pl.lit(self.run_id), **marks)
        target = self.path / name / f"part-{self._next[name]:05d}.parquet"
        self._next[name] += 1
        part = target.with_suffix(".partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            conform(with_id, TABLES[name], source=str(target)).write_parquet(part)
            part.replace(target)
        except OSError as error:
            raise RunFailure(f"cannot be written ({error.strerror or error})", where=str(target)) from error

    def _warms_up(self) -> pl.Expr:
        """Which outcomes only warm up, by run.json: the first `requests`, or arrivals `before_s`."""
        setting = self.info.get("warm_up") or {}
        if "requests" in setting:
            return pl.col("request_id") < int(setting["requests"])
        return pl.col("arrival_s") < float(setting["before_s"]) if setting else pl.lit(None, pl.Boolean)

    def truncate(self, counts: dict[str, int]) -> None:
        """Forget parts at and after `counts[name]`: what was written after the checkpoint a resume starts from."""
        for name in PARTS:
            for part in sorted((self.path / name).glob("part-*.parquet"))[counts.get(name, 0) :]:
                part.unlink()
            self._next[name] = counts.get(name, 0)

    def part_counts(self) -> dict[str, int]:
        return dict(self._next)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one file of the folder atomically."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            part = self.path / f".{name}.partial"
            part.write_bytes(data)
            part.replace(self.path / name)
        except OSError as error:
            raise RunFailure(f"cannot be written ({error.strerror or error})", where=str(self.path / name)) from error

    def finish(self, **results: Any) -> None:
        """Mark the run finished, with its results."""
        self.update(state="finished", finished=_now(), **results)
        (self.path / "checkpoint.npz").unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), **dict.fromkeys(VERSIONED, "not installed")}
    for name in (*VERSIONED, *VERSIONED_WHERE_INSTALLED):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
