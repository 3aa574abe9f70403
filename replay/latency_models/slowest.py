"""Step times of a model that is split over GPUs of several types: each part takes as long as on the slowest of them."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from toolkit.protocols import LatencyModel

Values = NDArray[np.float64]


class Slowest:
    """`each` is the same model, by the same latency model, on each of the types.

    What they do in lockstep with other instances, and mixed batches, are taken from their parts.
    """

    def __init__(self, each: Sequence[LatencyModel]):
        self.each = each
        self.model, self.tensor_parallel = getattr(each[0], "model", None), getattr(each[0], "tensor_parallel", 1)

    def dense_s(self, tokens: Values) -> Values:
        return reduce(np.maximum, [m.dense_s(tokens) for m in self.each])

    def head_s(self, sequences: Values) -> Values:
        return reduce(np.maximum, [m.head_s(sequences) for m in self.each])

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return reduce(np.maximum, [m.decode_attention_s(sequences, kv_tokens) for m in self.each])

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return reduce(np.maximum, [m.prefill_attention_s(chunk, prior) for m in self.each])
