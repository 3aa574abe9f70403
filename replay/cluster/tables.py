"""The latency models in use on a cluster, lowered and stacked."""

from collections.abc import Sequence

from replay.cluster.hosting import Hosting
from replay.cluster.state import stacked
from replay.simulation.latency import Latency
from replay.simulation.sensitivity import scaled


class TableBook:
    """The latency tables in use, a row for each model, the types of its GPUs and the share of layers there."""

    def __init__(self, hosting: Hosting, scale: float = 1.0):
        self._hosting, self._scale = hosting, scale
        self._rows: dict[tuple[int, tuple[str, ...], float], int] = {}
        self._same: dict[tuple[object, ...], int] = {}
        self._made: list[Latency] = []
        self.asked: list[tuple[int, tuple[str, ...], float]] = []  # for what a row was made, in this order
        self.stacked: Latency

    def row(self, m: int, gpus: Sequence[int], resident: float) -> int:
        """The row of a model on `gpus`; made when first asked for."""
        return self.row_of(m, tuple(sorted({self._hosting.gpu_types[g] for g in gpus})), resident)

    def row_of(self, m: int, types: tuple[str, ...], resident: float) -> int:
        """The row of a model on GPUs of these types."""
        key = (m, types, round(resident, 6))
        if key not in self._rows:
            self.asked.append((m, types, resident))
            hosted = self._hosting.replicas[m].hosted
            same = (hosted.preset, hosted.tensor_parallel, hosted.latency, *key[1:])
            if same not in self._same:
                self._made.append(scaled(self._hosting.latency(m, types, resident), self._scale))
                self._same[same] = len(self._made) - 1
                self.stacked = stacked(self._made)
            self._rows[key] = self._same[same]
        return self._rows[key]

    def first(self, m: int) -> Latency:
        """A whole model's tables on GPUs of the cluster's first type."""
        return self._made[self.row(m, (0,), 1.0)]
