"""The latency models in use on a cluster, lowered and stacked."""

from replay.cluster.hosting import Hosting
from replay.cluster.state import stacked
from replay.simulation.latency import Latency
from replay.simulation.sensitivity import scaled


class TableBook:
    """The latency tables in use, a row for each model, type of GPU and share of layers there."""

    def __init__(self, hosting: Hosting, scale: float = 1.0):
        self._hosting, self._scale = hosting, scale
        self._rows: dict[tuple[int, str, float], int] = {}
        self._same: dict[tuple[object, ...], int] = {}
        self._made: list[Latency] = []
        self.stacked: Latency

    def row(self, m: int, gpu: str, resident: float) -> int:
        """The row of a model on a type of GPU; made when first asked for."""
        key = (m, gpu, round(resident, 6))
        if key not in self._rows:
            hosted = self._hosting.replicas[m].hosted
            same = (hosted.preset, hosted.tensor_parallel, hosted.latency, gpu, key[2])
            if same not in self._same:
                self._made.append(scaled(self._hosting.latency(m, gpu, resident), self._scale))
                self._same[same] = len(self._made) - 1
                self.stacked = stacked(self._made)
            self._rows[key] = self._same[same]
        return self._rows[key]

    def at(self, row: int) -> Latency:
        """One row as the core's tables."""
        return self._made[row]
