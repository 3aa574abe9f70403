"""Step times from a GPU's bandwidth and throughput and a model's shape."""

import numpy as np
from numpy.typing import NDArray

from replay.latency_models.collectives import Link, exchange_s
from replay.simulation.hardware import gpu_preset, model_preset

Values = NDArray[np.float64]


class Roofline:
    """Step times from hardware and model numbers: each part takes the longer of its arithmetic and its memory traffic.

    `compute_efficiency` and `bandwidth_efficiency` are the shares of the data sheet's numbers that kernels reach and
    `overhead_s` is the host's time a step: assumptions, to be replaced by a measured profile where there is one.
    `tensor_parallel` GPUs split every matrix and the KV heads and reduce the hidden state twice a layer. A token
    reaches experts at random. `ranks` instances step together and share the experts over the link.
    """

    def __init__(
        self,
        gpu: str = "h100",
        model: str = "llama-3.1-8b",
        compute_efficiency: float = 0.7,
        bandwidth_efficiency: float = 0.85,
        overhead_s: float = 0.0005,
        tensor_parallel: int = 1,
        ranks: int = 1,
    ):
        self.gpu, self.model = gpu_preset(gpu), model_preset(model)
        self.model.check_split(tensor_parallel)
        self.flops_per_s = self.gpu.flops_per_s * compute_efficiency
        self.bytes_per_s = self.gpu.bandwidth_bytes_per_s * bandwidth_efficiency
        self.overhead_s, self.tensor_parallel, self.ranks = overhead_s, tensor_parallel, ranks
        self.link = Link(self.gpu.link_bytes_per_s, self.gpu.link_latency_s)
        self.shared_s = self._shared_s if ranks > 1 else None

    def dense_s(self, tokens: Values) -> Values:
        time = self._matmul(tokens, self.model.dense_parameters) + self.overhead_s
        if self.ranks == 1:
            time = time + self._experts(tokens)
        if self.tensor_parallel == 1:
            return time
        hidden = tokens * self.model.hidden_size * 2.0
        return time + 2 * self.model.num_hidden_layers * self.link.all_reduce_s(hidden, self.tensor_parallel)

    def head_s(self, sequences: Values) -> Values:
        return np.where(sequences > 0, self._matmul(sequences, self.model.head_parameters), 0.0)

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return self._attention(kv_tokens, kv_tokens)

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return self._attention(chunk * (prior + chunk / 2), prior + chunk)

    def _shared_s(self, tokens: Values) -> Values:
        """The experts for the tokens of all ranks together, with the exchange before and after."""
        exchange = exchange_s(self.link, tokens * self.model.hidden_size * 2.0, self.ranks) * self.model.moe_layers
        return np.where(tokens > 0, self._experts(tokens) + exchange, 0.0)

    def _matmul(self, rows: Values, parameters: float) -> Values:
        held = parameters / self.tensor_parallel
        return np.maximum(2.0 * held * rows / self.flops_per_s, held * self.model.bytes_per_value / self.bytes_per_s)

    def _experts(self, tokens: Values) -> Values:
        """Each token computes with its experts; the weights of all experts that any token reaches are read."""
        m = self.model
        if not m.num_experts:
            return np.zeros_like(tokens)
        reached = m.num_experts * (1 - (1 - m.num_experts_per_tok / m.num_experts) ** tokens)
        held = m.moe_layers * m.expert_parameters / (self.tensor_parallel * self.ranks)
        flops = 2.0 * held * tokens * m.num_experts_per_tok
        return np.maximum(flops / self.flops_per_s, held * reached * m.bytes_per_value / self.bytes_per_s)

    def _attention(self, pairs: Values, kv_tokens: Values) -> Values:
        """`pairs`: query-key pairs a head."""
        m = self.model
        width = m.kv_lora_rank * 2 + m.qk_rope_head_dim if m.kv_lora_rank else 2 * m.head_dim
        flops = 2.0 * m.num_hidden_layers * m.num_attention_heads * width * pairs / self.tensor_parallel
        read = kv_tokens * m.kv_bytes_per_gpu(self.tensor_parallel)
        return np.maximum(flops / self.flops_per_s, read / self.bytes_per_s)
