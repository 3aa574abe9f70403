"""Replays a trace under several schedulers at once, one run folder each, and resumes what was cut short."""

import re
import threading
from collections.abc import Callable, Sequence
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
    """A scheduler's spec and the run folder its outcomes go to."""

    spec: str
    writer: RunWriter


@dataclass
class Replayer:
    """Replays `trace` on `engine`; `report(spec, done, total)` hears how far each replay is."""

    engine: Engine
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
        meter = Meter(lambda done, total: self.report(job.spec, done, total), self.stop)
        return self.engine.replay(self.trace, self.info, scheduler, job.writer, meter)


def split_schedulers(values: Sequence[str]) -> list[str]:
    """Scheduler specs from `--scheduler` values: `a,b:key=value,key=value` names two.

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
    if len(set(specs)) < len(specs):
        twice = next(s for s in specs if specs.count(s) > 1)
        raise SettingFailure(f"'{twice}' is named twice", where="--scheduler")
    return specs


def label_of(spec: str) -> str:
    """A folder name for a scheduler's spec: its name and settings in letters, digits, dot, dash and underscore."""
    name, options = plugins.split_spec(spec)
    name = name.rpartition(":")[2] if ".py:" in name else name
    text = "_".join([name, *(f"{key}-{value}" for key, value in options.items())])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") or "scheduler"


def open_jobs(out: Path, specs: Sequence[str], settings: dict[str, Any]) -> list[Job]:
    """A run folder under `out` for each scheduler; nothing is created unless all can be."""
    for spec in specs:
        plugins.create("scheduler", spec)
        if (out / label_of(spec) / "run.json").exists():
            hint = f"continue it with `trace replay --resume {out}`, or choose another --out"
            raise RunFailure("holds a run already", where=str(out / label_of(spec)), hint=hint)
    if len({label_of(spec) for spec in specs}) < len(specs):
        raise SettingFailure("two schedulers would share a folder", where="--scheduler", hint="replay them apart")
    return [Job(spec, _open(out / label_of(spec), spec, settings)) for spec in specs]


def _open(path: Path, spec: str, settings: dict[str, Any]) -> RunWriter:
    name, options = plugins.split_spec(spec)
    scheduler = {"name": name, "parameters": options, "spec": spec}
    return RunWriter.create(path, {**settings, "run_id": label_of(spec), "name": spec, "scheduler": scheduler})
