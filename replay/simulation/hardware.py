"""What runs on what: GPUs and models as numbers, from presets, with KV memory worked out from them."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
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
    """A decoder-only transformer with a gated MLP or experts, by its config.json's fields; 0 where it has no such part.

    `kv_lora_rank` names latent attention (MLA): the cache holds one latent and one rotary key a token. A layer has
    experts from `first_k_dense_replace` on.
    """

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    source: str
    name: str = ""  # on Hugging Face
    bytes_per_value: float = 2  # of a weight
    kv_bytes_per_value: float = 2
    tie_word_embeddings: bool = False
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    n_shared_experts: int = 0
    first_k_dense_replace: int = 0
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    qk_nope_head_dim: int = 0
    v_head_dim: int = 0

    def check_split(self, gpus: int) -> None:
        """SettingFailure where tensor parallelism over so many GPUs would cut a head in two."""
        if self.num_attention_heads % gpus:
            what = f"{self.num_attention_heads} heads cannot be split over {gpus} GPUs"
            raise SettingFailure(what, where=self.name or self.source, hint="choose another tensor parallelism")

    @property
    def attention_parameters(self) -> int:
        """Weights of one layer's attention projections."""
        if not self.kv_lora_rank:
            heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
            return self.hidden_size * heads * self.head_dim
        h, n = self.hidden_size, self.num_attention_heads
        query = n * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        q = h * self.q_lora_rank + self.q_lora_rank * query if self.q_lora_rank else h * query
        kv = h * (self.kv_lora_rank + self.qk_rope_head_dim)
        up = self.kv_lora_rank * n * (self.qk_nope_head_dim + self.v_head_dim)
        return q + kv + up + n * self.v_head_dim * h

    @property
    def expert_parameters(self) -> int:
        """Weights of one expert of one layer."""
        return 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def moe_layers(self) -> int:
        """Layers that have experts."""
        return self.num_hidden_layers - self.first_k_dense_replace if self.num_experts else 0

    @property
    def dense_mlp_parameters(self) -> int:
        """Weights of one gated MLP."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def dense_parameters(self) -> int:
        """Weights of all layers that every token passes: attention, MLPs, shared experts, routers."""
        dense = (self.num_hidden_layers - self.moe_layers) * self.dense_mlp_parameters
        shared = self.n_shared_experts * self.expert_parameters + self.num_experts * self.hidden_size
        return self.num_hidden_layers * self.attention_parameters + dense + self.moe_layers * shared

    @property
    def head_parameters(self) -> int:
        """Weights of the output projection."""
        return self.vocab_size * self.hidden_size

    @property
    def weight_bytes(self) -> int:
        """All weights: layers, experts, norms, embedding and, where it is not the embedding, output projection."""
        norms = (2 * self.num_hidden_layers + 1) * self.hidden_size
        ends = (1 if self.tie_word_embeddings else 2) * self.head_parameters
        experts = self.moe_layers * self.num_experts * self.expert_parameters
        return int((self.dense_parameters + experts + norms + ends) * self.bytes_per_value)

    @property
    def kv_bytes_per_token(self) -> int:
        """What one token leaves in the cache of all layers."""
        if self.kv_lora_rank:
            return int(self.num_hidden_layers * (self.kv_lora_rank + self.qk_rope_head_dim) * self.kv_bytes_per_value)
        return int(2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * self.kv_bytes_per_value)

    def weight_bytes_per_gpu(self, tensor_parallel: int = 1, expert_parallel: int = 1) -> float:
        """Weights on each GPU: matrices split by `tensor_parallel`, experts by both."""
        experts = self.moe_layers * self.num_experts * self.expert_parameters * self.bytes_per_value
        return (self.weight_bytes - experts) / tensor_parallel + experts / (tensor_parallel * expert_parallel)

    def kv_bytes_per_gpu(self, tensor_parallel: int = 1) -> float:
        """Cache of a token on each GPU: KV heads are split until each has one; a latent is on every GPU."""
        split = 1 if self.kv_lora_rank else min(tensor_parallel, self.num_key_value_heads)
        return self.kv_bytes_per_token / split


def gpu_preset(name: str) -> GPU:
    """The GPU preset `name`; SettingFailure with the nearest name."""
    return GPU(**_numbers(_entry("gpus", name), GPU))


def model_preset(name: str) -> ServedModel:
    """The model preset `name`, or the model of a Hugging Face config.json at that path; SettingFailure if neither."""
    if name.endswith(".json"):
        return _from_file(Path(name))
    return ServedModel(**_entry("models", name))


def model_by_name(name: str) -> ServedModel:
    """The preset of the model that Hugging Face calls `name`, its variants (Instruct, a date) included."""
    known = {str(entry["name"]): preset for preset, entry in presets("models").items()}
    fitting = [k for k in known if name == k or name.startswith(k + "-")]
    if not fitting:
        raise SettingFailure(
            f"no preset for the model '{name}'", hint=nearest(name, known) or "give --model-preset a config.json"
        )
    return model_preset(known[max(fitting, key=len)])


def model_from_config(config: dict[str, Any], source: str) -> ServedModel:
    """A model from a Hugging Face config.json; SettingFailure names what it lacks."""
    config = {**config, **config.get("text_config", {})}
    other = {"num_experts": ("num_local_experts", "n_routed_experts"), "moe_intermediate_size": ("intermediate_size",)}
    fields = {f.name for f in dataclasses.fields(ServedModel)}
    found = {k: v for k, v in config.items() if k in fields and v is not None and not k.startswith(("name", "source"))}
    for ours, theirs in other.items():
        values = [config[k] for k in theirs if config.get(k)]
        if ours not in found and values and (ours == "num_experts" or found.get("num_experts")):
            found[ours] = values[0]
    if "num_experts_per_tok" not in found and config.get("experts_per_token"):
        found["num_experts_per_tok"] = config["experts_per_token"]
    lacking = {"num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"} - set(found)
    if lacking:
        raise SettingFailure(f"has no {', '.join(sorted(lacking))}", where=source, hint="give a model's config.json")
    found.setdefault("num_key_value_heads", found["num_attention_heads"])
    found.setdefault("head_dim", found["hidden_size"] // found["num_attention_heads"])
    found.setdefault("max_position_embeddings", 32_768)
    found.setdefault("intermediate_size", 0)
    return ServedModel(**found, source=source, name=str(config.get("_name_or_path", "")))


def kv_blocks(
    gpu: GPU,
    model: ServedModel,
    block_tokens: int,
    memory_share: float = 0.9,
    tensor_parallel: int = 1,
    expert_parallel: int = 1,
) -> int:
    """KV blocks that fit beside the weights in `memory_share` of the GPU's memory, as vLLM sizes its cache."""
    weights = model.weight_bytes_per_gpu(tensor_parallel, expert_parallel)
    left = gpu.memory_bytes * memory_share - weights - ACTIVATION_BYTES
    blocks = int(left // (model.kv_bytes_per_gpu(tensor_parallel) * block_tokens))
    if blocks < 1:
        need = (weights + ACTIVATION_BYTES) / 2**30
        have = gpu.memory_bytes * memory_share / 2**30
        raise SettingFailure(
            f"the model needs {need:.1f} GiB before any KV block and may use {have:.1f} GiB",
            hint="choose a larger --gpu, split the model with --tensor-parallel, or give --kv-blocks",
        )
    return blocks


@cache
def presets(kind: str) -> dict[str, dict[str, Any]]:
    """All presets of a kind: `gpus` or `models`."""
    import yaml

    text = (files("replay") / "presets" / f"{kind}.yaml").read_text()
    # The C parser where PyYAML was built with it: ten times as fast, and this is on the way to every replay.
    loaded: dict[str, dict[str, Any]] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def _from_file(path: Path) -> ServedModel:
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingFailure(f"cannot be read as a config.json: {error}", where=str(path)) from error
    return model_from_config(config, str(path))


def _entry(kind: str, name: str) -> dict[str, Any]:
    table = presets(kind)
    if name not in table:
        raise SettingFailure(f"no preset '{name}' among the {kind}", hint=nearest(name, table))
    return table[name]


def _numbers(entry: dict[str, Any], made: type) -> dict[str, Any]:
    """YAML reads 3e12 as text; every field but the source is a number."""
    names = {f.name for f in dataclasses.fields(made)} - {"source"}
    return {k: float(v) if k in names else v for k, v in entry.items()}
