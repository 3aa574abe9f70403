"""What `trace sweep` does: from a specification to a folder with tables and a page."""

import shlex
from pathlib import Path

import click

from replay.progress import progress
from replay.session import interrupted_by_sigterm
from replay.sweep.conducting import Conductor
from replay.sweep.points import grid
from replay.sweep.source import Source
from replay.sweep.spec import load_sweep
from replay.sweep.store import SweepStore, about
from toolkit import plugins, specs
from toolkit.executors import Executor, cores, local
from toolkit.results import whole_file
from toolkit.sweeps import SweepFolder


def run(path: Path, out: Path, workers: int | None, on: str = "local") -> bool:
    """Begin or continue the sweep; False when it was stopped before its end."""
    source = Source(*load_sweep(path))
    command = shlex.join(["trace", "sweep", str(path), "--out", str(out)])
    store = SweepStore.open(out, about(source, specs.load(path).plain(), command))
    if not _conducted(source, store, workers, on):
        return False
    render = plugins.load("page", "sweep")
    with whole_file(out / "index.html") as file:
        file.write(render(SweepFolder.open(out)).encode())
    return True


def _conducted(source: Source, store: SweepStore, workers: int | None, on: str) -> bool:
    executor = _local(source, store, workers) if on == "local" else _on_ray(source, on, workers)
    with progress(["points"], 0) as report, interrupted_by_sigterm():
        try:
            Conductor(source, store, executor, lambda done, total: report("points", done, total, spent(executor))).run()
        except KeyboardInterrupt:
            return False
        finally:
            executor.close()
    if spent(executor):
        click.echo(f"used {spent(executor)}", err=True)
    return True


def _local(source: Source, store: SweepStore, workers: int | None) -> Executor:
    few = 0 if source.sweep.search else sum(not store.has(p) for p in grid(source.sweep, source.cluster))
    return local(workers or min(cores(), few or cores()))


def _on_ray(source: Source, on: str, workers: int | None) -> Executor:
    from replay.sweep.on_ray import Sent
    from toolkit.on_ray import RayTasks

    return RayTasks(on, workers, Sent.of(source))


def spent(executor: Executor) -> str:
    """What the work has cost, where the executor counts it."""
    counted = getattr(executor, "spent", None)
    return counted.said() if counted and counted.pieces else ""
