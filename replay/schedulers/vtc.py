"""VTC: fair queueing by tenant."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.schedulers.request_classes import RequestClasses
from toolkit.protocols import Lanes


class VTC:
    """Virtual token counter: the client that has had the least service is next, FCFS within a client.

    "Fairness in Serving Large Language Models" (Sheng et al., OSDI 2024), algorithm 2: a prompt token weighs
    `prompt_weight`, an output token `output_weight`. Clients are told apart `by` tenant (or other columns, with `+`).
    """

    def __init__(self, prompt_weight: float = 1.0, output_weight: float = 2.0, by: str = "tenant"):
        self.lanes = Lanes(prompt_weight=prompt_weight, output_weight=output_weight)
        self.clients = RequestClasses(by)

    def rank(self, requests: pl.DataFrame, now_s: float) -> NDArray[np.float64]:
        return requests["arrival_s"].to_numpy()

    def lane(self, requests: pl.DataFrame) -> NDArray[np.int64]:
        return self.clients.of(requests)
