"""What runs on what: GPUs and models as numbers, from presets, with KV memory worked out from them."""

import dataclasses
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from toolkit.errors import SettingFailure, nearest

ACTIVATION_BYTES = 2 * 2**30  # what an engine keeps for activations and graphs besides weights and KV blocks


@dataclass(frozen=True)
class GPU:
    """One accelerator. Throughput is dense 16-bit; the link is to its peers, one direction."""

    memory_bytes: float
    bandwidth_bytes_per_s: float
    flops_per_s: float
    link_bytes_per_s: float
    link_latency_s: float
    source: str


@dataclass(frozen=True)
class ServedModel:
    """A decoder-only transformer with grouped-query attention and a gated MLP, by its config.json's fields."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    source: str
    bytes_per_value: int = 2

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer's projections and MLP."""
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
        return self.hidden_size * (heads * self.head_dim + 3 * self.intermediate_size)

    @property
    def head_parameters(self) -> int:
        """Weights of the output projection."""
        return self.vocab_size * self.hidden_size

    @property
    def weight_bytes(self) -> int:
        """All weights: layers, embedding and output projection."""
        total = self.num_hidden_layers * self.layer_parameters + 2 * self.head_parameters
        return total * self.bytes_per_value

    @property
    def kv_bytes_per_token(self) -> int:
        """K and V of one token in all layers."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * self.bytes_per_value


def gpu_preset(name: str) -> GPU:
    """The GPU preset `name`; SettingFailure with the nearest name."""
    return GPU(**_numbers(_entry("gpus", name), GPU))


def model_preset(name: str) -> ServedModel:
    """The model preset `name`; SettingFailure with the nearest name."""
    return ServedModel(**_entry("models", name))


def kv_blocks(gpu: GPU, model: ServedModel, block_tokens: int, memory_share: float = 0.9) -> int:
    """KV blocks that fit beside the weights in `memory_share` of the GPU's memory, as vLLM sizes its cache."""
    left = gpu.memory_bytes * memory_share - model.weight_bytes - ACTIVATION_BYTES
    blocks = int(left // (model.kv_bytes_per_token * block_tokens))
    if blocks < 1:
        need = (model.weight_bytes + ACTIVATION_BYTES) / 2**30
        have = gpu.memory_bytes * memory_share / 2**30
        raise SettingFailure(
            f"the model needs {need:.1f} GiB before any KV block and may use {have:.1f} GiB",
            hint="choose a larger --gpu or give --kv-blocks",
        )
    return blocks


@cache
def presets(kind: str) -> dict[str, dict[str, Any]]:
    """All presets of a kind: `gpus` or `models`."""
    import yaml

    loaded: dict[str, dict[str, Any]] = yaml.safe_load((files("replay") / "presets" / f"{kind}.yaml").read_text())
    return loaded


def _entry(kind: str, name: str) -> dict[str, Any]:
    table = presets(kind)
    if name not in table:
        raise SettingFailure(f"no preset '{name}' among the {kind}", hint=nearest(name, table))
    return table[name]


def _numbers(entry: dict[str, Any], made: type) -> dict[str, Any]:
    """YAML reads 3e12 as text; every field but the source is a number."""
    names = {f.name for f in dataclasses.fields(made)} - {"source"}
    return {k: float(v) if k in names else v for k, v in entry.items()}
