"""Llamas of usual shapes, whose weights are drawn at random on the device; for a smoke test a thousandth of each."""

from typing import Any

from benchmarks.gpu.setting import Setting
from replay.torch_engine.model import Model, build

SHAPES: dict[str, dict[str, Any]] = {  # as Llama-3.2-1B and 3B, Llama-3.1-8B and Qwen2.5-14B have them
    "1b": {"layers": 16, "hidden": 2048, "ffn": 8192, "heads": 32, "kv_heads": 8, "dim": 64, "tied": True},
    "3b": {"layers": 28, "hidden": 3072, "ffn": 8192, "heads": 24, "kv_heads": 8, "dim": 128, "tied": True},
    "8b": {"layers": 32, "hidden": 4096, "ffn": 14336, "heads": 32, "kv_heads": 8, "dim": 128, "tied": False},
    "14b": {"layers": 48, "hidden": 5120, "ffn": 13824, "heads": 40, "kv_heads": 8, "dim": 128, "tied": False},
}
VOCABULARY, ELEMENT = 128256, 2  # bytes of a number
LONGEST = 32768


def config(name: str, smoke: bool) -> dict[str, Any]:
    """A configuration of transformers' Llama."""
    shape = SHAPES[name]
    shrunk = {"layers": shape["layers"] // 8, "hidden": 64, "ffn": shape["ffn"] // 64, "heads": 4, "kv_heads": 2}
    shape = {**shape, **shrunk, "dim": 16} if smoke else shape
    return {
        "num_hidden_layers": shape["layers"],
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["ffn"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["dim"],
        "vocab_size": 512 if smoke else VOCABULARY,
        "max_position_embeddings": LONGEST,
        "tie_word_embeddings": shape["tied"],
    }


def weight_bytes(name: str, smoke: bool) -> int:
    """Of its parameters, 2 bytes each."""
    c = config(name, smoke)
    heads = 2 * c["num_attention_heads"] + 2 * c["num_key_value_heads"]
    layer = c["hidden_size"] * (heads * c["head_dim"] + 3 * c["intermediate_size"] + 2)
    ends = c["vocab_size"] * c["hidden_size"] * (1 if c["tie_word_embeddings"] else 2)
    return int(ELEMENT * (c["num_hidden_layers"] * layer + ends + c["hidden_size"]))


def tensors(name: str, smoke: bool) -> int:
    """How many tensors its weights are in: nine a layer, the embedding, the last norm, and the head if it has one."""
    c = config(name, smoke)
    return int(9 * c["num_hidden_layers"] + (2 if c["tie_word_embeddings"] else 3))


def fitting(at: Setting, share: float = 0.4) -> list[str]:
    """The shapes whose weights take at most `share` of the device's memory and a quarter of the host's."""
    most = min(share * at.memory_bytes, at.host_bytes / 4)
    fit = [name for name in SHAPES if weight_bytes(name, at.smoke) <= most]
    return fit[:3] if at.smoke else fit


def made(at: Setting, name: str, seed: int = 0) -> Model:
    """The model, its weights on the host."""
    return build(f"{name}-{seed}" if seed else name, config(name, at.smoke), at.device, seed=seed)
