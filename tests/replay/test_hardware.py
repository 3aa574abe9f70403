"""Presets are complete and sane; models can be read from a config.json; collectives and rooflines have closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest

from replay.latency_models.collectives import Link
from replay.latency_models.roofline import Roofline
from replay.simulation.hardware import gpu_preset, kv_blocks, model_by_name, model_preset, presets
from toolkit.errors import SettingFailure

PUBLISHED_GB = {  # parameters of the model card at 16 bits (8 for DeepSeek V3)
    "llama-2-7b": 13.48,
    "llama-3.1-8b": 16.06,
    "llama-3.1-70b": 141.1,
    "llama-3.1-405b": 811.7,
    "llama-3.2-1b": 2.47,
    "qwen2.5-7b": 15.23,
    "qwen3-30b-a3b": 61.06,
    "qwen3-235b-a22b": 470.2,
    "mixtral-8x7b": 93.4,
    "gemma-2-9b": 18.48,
    "deepseek-v3": 671.0,
}
KV_BYTES = {"llama-3.1-8b": 131_072, "qwen3-30b-a3b": 98_304, "deepseek-v3": 70_272, "llama-2-7b": 524_288}


@pytest.mark.parametrize("name", list(PUBLISHED_GB))
def test_weights_are_the_published_size(name: str) -> None:
    assert model_preset(name).weight_bytes / 1e9 == pytest.approx(PUBLISHED_GB[name], rel=0.002)


@pytest.mark.parametrize(("name", "expected"), KV_BYTES.items())
def test_a_token_leaves_this_in_the_cache(name: str, expected: int) -> None:
    assert model_preset(name).kv_bytes_per_token == expected


@pytest.mark.parametrize("name", presets("gpus"))
def test_every_gpu_is_whole(name: str) -> None:
    gpu = gpu_preset(name)
    assert 20e9 < gpu.memory_bytes < 300e9
    assert 50 < gpu.flops_per_s / gpu.bandwidth_bytes_per_s < 500  # what one byte read must be computed with
    assert gpu.source


@pytest.mark.parametrize("name", presets("models"))
def test_every_model_is_whole_and_found_by_its_name(name: str) -> None:
    model = model_preset(name)
    assert model_by_name(model.name) == model
    assert model_by_name(f"{model.name}-Instruct") == model
    assert not model.num_experts or 0 < model.num_experts_per_tok < model.num_experts


def test_a_config_json_gives_the_preset(tmp_path: Path) -> None:
    config = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = model_preset(str(tmp_path / "config.json"))
    assert made.weight_bytes == model_preset("mixtral-8x7b").weight_bytes
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingFailure, match="hidden_size"):
        model_preset(str(tmp_path / "config.json"))


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(SettingFailure, match="rtx4090"):
        gpu_preset("rtx4091")
    with pytest.raises(SettingFailure, match="did you mean"):
        model_by_name("meta-llama/Llama-3.1-9B")


def test_tensor_parallelism_splits_weights_and_cache() -> None:
    model = model_preset("llama-3.1-8b")
    assert model.kv_bytes_per_gpu(16) == model.kv_bytes_per_token / 8
    assert kv_blocks(gpu_preset("rtx4090"), model, 16, tensor_parallel=2) > 2 * kv_blocks(
        gpu_preset("rtx4090"), model, 16
    )
    with pytest.raises(SettingFailure, match="tensor-parallel"):
        kv_blocks(gpu_preset("rtx4090"), model_preset("llama-3.1-70b"), 16)


def test_a_ring_moves_each_part_past_every_gpu() -> None:
    link = Link(bytes_per_s=1e9, latency_s=1e-6)
    assert link.gather_s(np.array([4e6]), 4) == pytest.approx([3 * (1e-6 + 1e-3)])
    assert link.all_reduce_s(np.array([4e6]), 4) == pytest.approx([6 * (1e-6 + 1e-3)])


def test_two_gpus_reduce_in_one_step() -> None:
    assert Link(bytes_per_s=1e9, latency_s=1e-6).all_reduce_s(np.array([4e6]), 2) == pytest.approx([1e-6 + 4e-3])


def test_the_roofline_reads_the_experts_that_tokens_reach() -> None:
    one = Roofline("h100", "qwen3-30b-a3b", overhead_s=0.0)
    few, many = (one._experts(np.array([t])) for t in (1.0, 10_000.0))
    model = one.model
    read = model.moe_layers * model.expert_parameters * 2 / one.bytes_per_s
    assert few == pytest.approx([8 * read])
    assert many >= 128 * read * 0.999


def test_two_gpus_halve_the_matrices_and_pay_for_the_link() -> None:
    one, two = (Roofline("h100", "llama-3.1-70b", overhead_s=0.0, tensor_parallel=n) for n in (1, 2))
    tokens = np.array([1.0])
    link = 2 * 80 * two.link.all_reduce_s(tokens * 8192 * 2, 2)
    assert two.dense_s(tokens) == pytest.approx(one.dense_s(tokens) / 2 + link)
    assert two.decode_attention_s(1, np.array([1e6])) == pytest.approx(one.decode_attention_s(1, np.array([1e6])) / 2)
