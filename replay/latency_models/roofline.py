"""Step times from a GPU's bandwidth and throughput and a model's shape."""

import numpy as np
from numpy.typing import NDArray

from replay.simulation.hardware import gpu_preset, model_preset

Values = NDArray[np.float64]


class Roofline:
    """Step times from hardware and model numbers: each part takes the longer of its arithmetic and its memory traffic.

    `compute_efficiency` and `bandwidth_efficiency` are the shares of the data sheet's numbers that kernels reach and
    `overhead_s` is the host's time a step: assumptions, to be replaced by a measured profile where there is one.
    """

    def __init__(
        self,
        gpu: str = "h100",
        model: str = "llama-3.1-8b",
        compute_efficiency: float = 0.7,
        bandwidth_efficiency: float = 0.85,
        overhead_s: float = 0.0005,
    ):
        self.gpu, self.model = gpu_preset(gpu), model_preset(model)
        self.flops_per_s = self.gpu.flops_per_s * compute_efficiency
        self.bytes_per_s = self.gpu.bandwidth_bytes_per_s * bandwidth_efficiency
        self.overhead_s = overhead_s

    def dense_s(self, tokens: Values) -> Values:
        layers = self._matmul(tokens, self.model.layer_parameters) * self.model.num_hidden_layers
        return layers + self.overhead_s

    def head_s(self, sequences: Values) -> Values:
        return np.where(sequences > 0, self._matmul(sequences, self.model.head_parameters), 0.0)

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return self._attention(kv_tokens, kv_tokens)

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return self._attention(chunk * (prior + chunk / 2), prior + chunk)

    def _matmul(self, rows: Values, parameters: int) -> Values:
        return np.maximum(
            2.0 * parameters * rows / self.flops_per_s, parameters * self.model.bytes_per_value / self.bytes_per_s
        )

    def _attention(self, pairs: Values, kv_tokens: Values) -> Values:
        """`pairs`: query-key pairs a head."""
        m = self.model
        flops = 4.0 * m.num_hidden_layers * m.num_attention_heads * m.head_dim * pairs
        return np.maximum(flops / self.flops_per_s, kv_tokens * m.kv_bytes_per_token / self.bytes_per_s)
