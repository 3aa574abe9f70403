"""Collectives between GPUs from the bandwidth and latency of the links between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Link:
    """One GPU's link to its peers, one direction."""

    bytes_per_s: float
    latency_s: float

    def gather_s(self, total_bytes: Values, gpus: int) -> Values:
        """All-gather or reduce-scatter of `total_bytes` over `gpus`: each step of the ring moves one part."""
        return (gpus - 1) * (self.latency_s + total_bytes / gpus / self.bytes_per_s)

    def all_reduce_s(self, total_bytes: Values, gpus: int) -> Values:
        """A reduce-scatter and an all-gather; two GPUs read what the other has in one step, as vLLM's kernel does."""
        if gpus == 2:
            return self.latency_s + total_bytes / self.bytes_per_s
        return 2 * self.gather_s(total_bytes, gpus)


def exchange_s(link: Link, hidden_bytes: Values, ranks: int) -> Values:
    """A layer's exchange of expert parallelism: hidden states are gathered from all ranks, results scattered back."""
    return 2 * link.gather_s(hidden_bytes, ranks)
