"""What it costs to evict a model for another and to bring it back with its work (arXiv 2605.19593).

    cost = unload + reload + KV out + KV in

Neither progress nor the other model is in it, but for the KV memory of what runs: context × its bytes a token.
"""

from dataclasses import dataclass

from replay.cluster.machine import Machine, Method
from replay.simulation.hardware import ServedModel


@dataclass(frozen=True)
class PreemptionCost:
    """The four parts of one preemption."""

    unload_s: float
    reload_s: float
    kv_out_s: float
    kv_in_s: float

    @property
    def swap_s(self) -> float:
        """Of the weights."""
        return self.unload_s + self.reload_s

    @property
    def kv_s(self) -> float:
        """Of the context."""
        return self.kv_out_s + self.kv_in_s

    @property
    def total_s(self) -> float:
        return self.swap_s + self.kv_s

    @property
    def kv_share(self) -> float:
        """Of the whole, that KV transfer takes."""
        return self.kv_s / self.total_s


def preemption_cost(
    machine: Machine, model: ServedModel, context_tokens: float, method: Method = "naive", width: int = 1
) -> PreemptionCost:
    """What preempting `model` costs while its requests hold `context_tokens` tokens of KV memory, on `width` GPUs.

    Each GPU moves its own part, keys and values of a layer apart.
    """
    weights, kv = model.weight_bytes_per_gpu(width), context_tokens * model.kv_bytes_per_gpu(width)
    copies = _copies(model) if context_tokens else 0
    return PreemptionCost(
        machine.unload_s(weights),
        machine.load_s(weights, width, method),
        machine.kv_out_s(kv, copies),
        machine.kv_in_s(kv, copies),
    )


def context_of_share(
    machine: Machine, model: ServedModel, share: float, method: Method = "naive", width: int = 1
) -> float:
    """The context at which KV transfer is `share` of the cost; 0 where it is more from the first token on."""
    swap_s = preemption_cost(machine, model, 0, method, width).swap_s
    moving_s = share / (1 - share) * swap_s - machine.kv_out_s(0, _copies(model)) - machine.kv_in_s(0, _copies(model))
    kv = model.kv_bytes_per_gpu(width)
    return max(0.0, moving_s / (machine.kv_out_s(kv) + machine.kv_in_s(kv)))


def _copies(model: ServedModel) -> int:
    """Tensors of the cache: keys and values of a layer, or its latent."""
    return model.num_hidden_layers * (1 if model.kv_lora_rank else 2)
