"""Replays a trace under several schedulers at once, one run folder each, and resumes what was cut short."""

import inspect
import re
import shlex
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from toolkit import plugins
from toolkit.errors import RunFailure, SettingFailure
from toolkit.protocols import Engine
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo

WORKERS = 2  # the compiled core leaves the interpreter free, so replays run side by side


@dataclass
class Meter:
    """One replay's progress, and the flag all of them stop by."""

    report: Callable[[int, int], None]
    stop: threading.Event

    def progress(self, done: int, total: int) -> None:
        self.report(done, total)

    def stopped(self) -> bool:
        return self.stop.is_set()


@dataclass(frozen=True)
class Job:
    """A scheduler's spec, the engine it runs on and the run folder its outcomes go to."""

    spec: str
    writer: RunWriter
    engine: Engine

    @property
    def name(self) -> str:
        return str(self.writer.info["name"])


@dataclass
class Replayer:
    """Replays `trace`; `report(name, done, total)` hears how far each replay is."""

    trace: pl.DataFrame
    info: TraceInfo
    report: Callable[[str, int, int], None] = lambda spec, done, total: None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, jobs: Sequence[Job]) -> bool:
        """Replay every job; True when all are finished, False when stopped with checkpoints left."""
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(self._replay, job) for job in jobs]
            try:
                wait(futures)
            except KeyboardInterrupt:
                self.stop.set()
            except BaseException:
                self.stop.set()
                raise
        finished = [future.result() for future in futures]
        return all(finished)

    def _replay(self, job: Job) -> bool:
        scheduler = plugins.create("scheduler", job.spec)
        meter = Meter(lambda done, total: self.report(job.name, done, total), self.stop)
        return job.engine.replay(self.trace, self.info, scheduler, job.writer, meter)


def drop_untouched(jobs: Sequence[Job]) -> None:
    """Remove the run folders in which a command that failed has left nothing but run.json."""
    for job in jobs:
        folder = job.writer.path
        if [file.name for file in folder.iterdir()] == ["run.json"]:
            shutil.rmtree(folder)


def split_specs(values: Sequence[str], option: str) -> list[str]:
    """Plugin specs from an option's values: `a,b:key=value,key=value` names two.

    A piece that is `key=value` without a colon belongs to the spec before it.
    """
    specs: list[str] = []
    for value in values:
        fresh = True
        for piece in filter(None, (p.strip() for p in value.split(","))):
            if not fresh and "=" in piece and ":" not in piece.partition("=")[0]:
                specs[-1] += f",{piece}"
            else:
                specs.append(piece)
            fresh = False
    if not specs:
        raise SettingFailure("names none", where=option, hint="`trace plugins` lists them")
    if len(set(specs)) < len(specs):
        twice = next(s for s in specs if specs.count(s) > 1)
        raise SettingFailure(f"'{twice}' is named twice", where=option)
    return specs


def label_of(spec: str) -> str:
    """A folder name for a scheduler's spec: its name and settings in letters, digits, dot, dash and underscore."""
    name, options = plugins.split_spec(spec)
    name = name.rpartition(":")[2] if ".py:" in name else name
    text = "_".join([name, *(f"{key}-{value}" for key, value in options.items())])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") or "scheduler"


def open_jobs(
    out: Path, specs: Sequence[str], engines: Mapping[str | None, Engine], settings: dict[str, Any]
) -> list[Job]:
    """A run folder under `out` for each engine (by its placement's spec, None where it has none) and scheduler.

    Nothing is created unless all can be.
    """
    pairs = [(placement, spec) for placement in engines for spec in specs]
    folders = [out / _folder(placement, spec) for placement, spec in pairs]
    for spec in specs:
        if not _ranks(plugins.create("scheduler", spec)):
            raise SettingFailure("is no scheduler", where=spec, hint="it needs rank(requests, now_s)")
    for folder in folders:
        if (folder / "run.json").exists():
            hint = f"continue it with `trace replay --resume {shlex.quote(str(out))}`, or choose another --out"
            raise RunFailure("holds a run already", where=str(folder), hint=hint)
    if len(set(folders)) < len(folders):
        raise SettingFailure("two replays would share a folder", where="--scheduler", hint="replay them apart")
    return [
        Job(spec, _open(folder, placement, spec, engines[placement], settings), engines[placement])
        for folder, (placement, spec) in zip(folders, pairs, strict=True)
    ]


def _ranks(made: Any) -> bool:
    """Whether it has a `rank` that takes requests and a time."""
    try:
        inspect.signature(made.rank).bind(None, 0.0)
    except (AttributeError, TypeError):
        return False
    return True


def _folder(placement: str | None, spec: str) -> str:
    return label_of(spec) if placement is None else f"{label_of(placement)}-{label_of(spec)}"


def _open(path: Path, placement: str | None, spec: str, engine: Engine, settings: dict[str, Any]) -> RunWriter:
    said = {"engine": engine.describe(), "run_id": path.name, "name": spec, "scheduler": _named(spec)}
    if placement is not None:
        said |= {"name": f"{placement} {spec}", "placement": _named(placement)}
    return RunWriter.create(path, {**settings, **said})


def _named(spec: str) -> dict[str, Any]:
    name, options = plugins.split_spec(spec)
    return {"name": name, "parameters": options, "spec": spec}
