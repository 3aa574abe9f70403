"""What happened to models and requests, as EVENTS rows."""

import polars as pl

from replay.simulation.state import PS
from toolkit.schema import EVENTS

COLUMNS = ("time_s", "kind", "gpu", "model", "bytes", "duration_s", "detail")
SCHEMA = {name: EVENTS[name] for name in COLUMNS}


class EventLog:
    """Collects what the controller does until it is written."""

    def __init__(self, gpu_names: tuple[str, ...], models: list[str]):
        self._gpus, self._models = gpu_names, models
        self._rows: list[tuple[float, str, str, str, int | None, float, str]] = []
        self.count = 0

    def add(
        self, time: int, kind: str, gpus: tuple[int, ...], model: int, size: float | None, duration: int, detail: str
    ) -> None:
        """An action on a model: a row for each of its GPUs, with the bytes there."""
        for g in gpus:
            each = None if size is None else round(size / len(gpus))
            self._rows.append((time / PS, kind, self._gpus[g], self._models[model], each, duration / PS, detail))
        self.count += 1

    def take(self) -> pl.DataFrame:
        """The rows since the last time."""
        rows, self._rows = self._rows, []
        return pl.DataFrame(rows, schema=SCHEMA, orient="row")
