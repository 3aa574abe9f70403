"""A cluster's replay as it stands, in one file: it can be stopped and continued as if it had not been.

The core's arrays and the controller's are saved as they are. The placement is pickled; what is read back may hold
numbers and placements of this package, and nothing else, since a run folder may come from anybody.
"""

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.cluster.controller import Stay
from replay.cluster.driver import ClusterDriver
from replay.simulation.checkpoints import NAME, START_OVER, misfit, read_checkpoint
from toolkit.errors import RunFailure
from toolkit.placing import Placement
from toolkit.runs import RunWriter

OF_DRIVER = ("tick", "idle_ticks", "steps", "cpu_s", "decisions", "deciding_s")
OF_CONTROLLER = ("weights", "resident", "ready", "kv_limit", "link_free")
PLACEMENTS = ("replay.placements.", "toolkit.placing")
PLAIN = {
    ("collections", "deque"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


def save(driver: ClusterDriver, follows: str | None, writer: RunWriter) -> None:
    """Write the checkpoint; none where the scheduler is asked, or the placement is none of ours: it starts over."""
    memory = _memory(driver.placement)
    if memory is None or not driver.feedback.resumable:
        return
    c = driver.controller
    told = {
        "follows": follows,
        "parts": writer.part_counts(),
        "driver": {name: getattr(driver, name) for name in OF_DRIVER},
        "pending": c.pending,
        "loads": c.loads,
        "events": c.log.count,
        "stays": c.stays,
        "tables": c.tables.asked,
    }
    saved: dict[str, Any] = dict(_arrays(driver))
    saved |= {"told": np.array(json.dumps(told, default=lambda number: number.item()))}
    saved |= {"placement": np.frombuffer(memory, np.uint8)}
    file = io.BytesIO()
    np.savez(file, **saved)
    writer.write_bytes(NAME, file.getvalue())


def _memory(placement: Placement) -> bytes | None:
    """A placement as bytes; None: they could not be read back."""
    try:
        memory = pickle.dumps(placement)
        Plain(io.BytesIO(memory)).load()
    except (pickle.PicklingError, pickle.UnpicklingError, AttributeError, TypeError):
        return None
    return memory


class Checkpoint:
    """What was saved in a run folder."""

    def __init__(self, folder: Path, saved: dict[str, NDArray[Any]]):
        self._folder, self._saved = folder, saved
        self._told = json.loads(str(saved["told"]))
        self.follows: str | None = self._told["follows"]

    @classmethod
    def of(cls, folder: Path) -> "Checkpoint | None":
        """That of a run folder; None: there is none."""
        saved = read_checkpoint(folder)
        if saved is not None and "told" not in saved:
            raise misfit(folder)
        return None if saved is None else cls(folder, saved)

    def restore(self, driver: ClusterDriver, writer: RunWriter) -> None:
        """Let a replay that has been prepared, and has not begun, go on from here."""
        c, told = driver.controller, self._told
        for m, types, resident in told["tables"]:
            c.tables.row_of(m, tuple(types), resident)
        for name, array in _arrays(driver):
            if name not in self._saved or self._saved[name].shape != array.shape:
                raise misfit(self._folder)
            array[...] = self._saved[name]
        for name, value in told["driver"].items():
            setattr(driver, name, value)
        c.pending[:] = [(ends, number, e) for ends, number, e in told["pending"]]
        c.loads, c.log.count = told["loads"], told["events"]
        c.stays[:] = [Stay(m, tuple(gpus), size) for m, gpus, size in told["stays"]]
        c.log.take()  # what was loaded before the replay is written already
        driver.placement = self._placement()
        writer.truncate(told["parts"])

    def _placement(self) -> Placement:
        try:
            made: Placement = Plain(io.BytesIO(self._saved["placement"].tobytes())).load()
        except pickle.UnpicklingError as error:
            raise RunFailure(str(error), where=str(self._folder / NAME), hint=START_OVER) from error
        return made


def _arrays(driver: ClusterDriver) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array of the core and of the controller that can change, records as plain structured arrays."""
    c = driver.controller
    for part in (c.state, c.pool):
        arrays = {f"{type(part).__name__}.{name}": array.view(np.ndarray) for name, array in part._asdict().items()}
        yield from ((name, array) for name, array in arrays.items() if array.flags.writeable)
    yield from ((name, getattr(c, name)) for name in OF_CONTROLLER)


class Plain(pickle.Unpickler):
    """Reads numbers and placements of this package."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        if module.startswith(PLACEMENTS) and name.isidentifier():
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a checkpoint")
