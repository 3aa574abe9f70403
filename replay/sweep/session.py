"""What `trace sweep` does: from a specification to a folder with tables and a page."""

import shlex
from pathlib import Path

from replay.progress import progress
from replay.session import interrupted_by_sigterm
from replay.sweep.conducting import Conductor
from replay.sweep.executors import cores, local
from replay.sweep.points import grid
from replay.sweep.source import Source
from replay.sweep.spec import load_sweep
from replay.sweep.store import SweepStore, about
from toolkit import plugins, specs
from toolkit.results import whole_file
from toolkit.sweeps import SweepFolder


def run(path: Path, out: Path, workers: int | None) -> bool:
    """Begin or continue the sweep; False when it was stopped before its end."""
    source = Source(*load_sweep(path))
    command = shlex.join(["trace", "sweep", str(path), "--out", str(out)])
    store = SweepStore.open(out, about(source, specs.load(path).plain(), command))
    if not _conducted(source, store, workers):
        return False
    render = plugins.load("page", "sweep")
    with whole_file(out / "index.html") as file:
        file.write(render(SweepFolder.open(out)).encode())
    return True


def _conducted(source: Source, store: SweepStore, workers: int | None) -> bool:
    few = 0 if source.sweep.search else sum(not store.has(p) for p in grid(source.sweep, source.cluster))
    executor = local(workers or min(cores(), few or cores()))
    with progress(["points"], 0) as report, interrupted_by_sigterm():
        try:
            Conductor(source, store, executor, lambda done, total: report("points", done, total)).run()
        except KeyboardInterrupt:
            return False
        finally:
            executor.close()
    return True
