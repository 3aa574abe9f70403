"""Kernels timed by NVIDIA: what is asked of the package, with a stand-in for it, and the package itself where it is."""

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from replay.latency_models.aiconfigurator import SYSTEMS, AIConfigurator
from replay.latency_models.choosing import served_by
from replay.latency_models.roofline import Roofline
from replay.simulation.hardware import model_preset
from replay.simulation.lowering import lower
from toolkit import runs
from toolkit.errors import SettingFailure

NS = 1e-6
WORK = {  # milliseconds that the stand-in takes for one token, sequence or prompt
    "GEMM": lambda k, at: k["n"] * k["k"] * at["x"] * NS,
    "ContextAttention": lambda k, at: at["s"] * (at.get("prefix", 0) + at["s"] / 2) * NS,
    "GenerationAttention": lambda k, at: at["batch_size"] * at["s"] * NS,
    "MoE": lambda k, at: at["x"] * k["topk"] * NS,
    "CustomAllReduce": lambda k, at: NS,
    "Embedding": lambda k, at: 0.0,
    "ElementWise": lambda k, at: 0.0,
}


class Handle:
    """Evaluates kernels by WORK; `missing` is a kind that was not timed."""

    missing = ""

    def evaluate_ops_json(self, part: str, **at: Any) -> list[tuple[str, float, float, str]]:
        return [(k["name"], k["times"] * self._work(k, at), 0.0, "silicon") for k in json.loads(part)]

    def _work(self, kernel: dict[str, Any], at: dict[str, Any]) -> float:
        if kernel["kind"] == self.missing:
            raise RuntimeError('perf database error: data missing for Key { head_size: 7 }: tried "a", "b"')
        return WORK[kernel["kind"]](kernel, at)


def operation(kind: str) -> Any:
    return lambda name, times, **rest: {"kind": kind, "name": name, "times": times, **rest}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for the package that knows h100_sxm and gb200 under vllm and sglang."""
    handle, opened = Handle(), []

    def get_database(system: str, framework: str, version: str) -> Any:
        if system not in ("h100_sxm", "gb200") or framework == "trtllm":
            raise ValueError(f"no queryable versions defined for {framework} on {system}")
        opened.append((system, framework, version))
        return SimpleNamespace(systems_root="/systems")

    kinds = ("GEMMQuantMode", "MoEQuantMode", "FMHAQuantMode", "KVCacheQuantMode")
    known = {system: {"vllm": ["1"], "sglang": ["1"]} for system in ("h100_sxm", "gb200")}
    parts = {
        "common": {kind: {mode: f"{kind}.{mode}" for mode in ("bfloat16", "fp8", "w4a16_mxfp4")} for kind in kinds},
        "engine": {"EngineHandle": SimpleNamespace(for_database=lambda d, systems_path: handle)},
        "operations": {kind: operation(kind) for kind in WORK},
        "perf_database": {"get_database": get_database, "get_supported_databases": lambda: known},
    }
    parts["engine"]["build_ops_json"] = json.dumps
    for name in ("aiconfigurator_core", "aiconfigurator_core.sdk"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, members in parts.items():
        module = ModuleType(f"aiconfigurator_core.sdk.{name}")
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(sys.modules["aiconfigurator_core.sdk"], name, module, raising=False)
    return SimpleNamespace(handle=handle, opened=opened)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("preset", ["llama-3.1-8b", "qwen2.5-7b", "gemma-2-9b"])
def test_matrices_hold_every_weight_that_a_token_passes(preset: str):
    model = AIConfigurator(model=preset, overhead_s=0.0)
    tokens = np.array([1.0, 3.0, 64.0])
    np.testing.assert_allclose(model.dense_s(tokens) * 1e9, tokens * model_preset(preset).dense_parameters)
    np.testing.assert_allclose(model.head_s(tokens) * 1e9, tokens * model_preset(preset).head_parameters)
    assert model.head_s(np.zeros(1)) == 0


@pytest.mark.usefixtures("package")
def test_experts_run_in_every_layer_beside_their_router():
    served = model_preset("qwen3-30b-a3b")
    model = AIConfigurator(model="qwen3-30b-a3b", overhead_s=0.0)
    experts = served.moe_layers * served.num_experts_per_tok
    np.testing.assert_allclose(model.dense_s(np.array([10.0])) * 1e9, 10 * (served.dense_parameters + experts))


@pytest.mark.usefixtures("package")
def test_gpus_share_the_matrices_and_reduce_twice_a_layer_and_after_the_embedding():
    served = model_preset("llama-3.1-8b")
    model = AIConfigurator(tensor_parallel=4, overhead_s=0.25)
    reductions = 2 * served.num_hidden_layers + 1
    np.testing.assert_allclose(
        model.dense_s(np.array([8.0])), 0.25 + (2 * served.dense_parameters + reductions) / 1e9, rtol=1e-12
    )


@pytest.mark.usefixtures("package")
def test_attention_is_asked_by_context():
    model, layers = AIConfigurator(), 32
    decode = model.decode_attention_s(4, np.array([4000.0, 8000.0]))
    np.testing.assert_allclose(decode * 1e9, layers * np.array([4000.0, 8000.0]))
    chunk, prior = np.meshgrid([16.0, 32.0], [0.0, 100.0, 200.0], indexing="ij")
    prefill = model.prefill_attention_s(chunk, prior)
    np.testing.assert_allclose(prefill * 1e9, layers * chunk * (prior + chunk / 2))


@pytest.mark.usefixtures("package")
def test_it_lowers_to_the_core_tables():
    latency = lower(AIConfigurator(overhead_s=0.0), max_tokens=64, max_seqs=4, max_context=512)
    assert latency.dense[64] == 64 * latency.dense[1]
    assert (np.diff(latency.dense[1:]) > 0).all()
    assert latency.kv_slope[4, 0] == 32_000  # picoseconds of a KV token


def test_gpu_and_options_choose_the_tables(package: SimpleNamespace):
    served_by("aiconfigurator", "h100", "llama-3.1-8b", 1)
    served_by("aiconfigurator:system=gb200,framework=sglang", "l4", "llama-3.1-8b", 2)
    assert package.opened == [("h100_sxm", "vllm", "current"), ("gb200", "sglang", "current")]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpu": "l4"}, "no timings are known for --gpu l4; it was timed for a100-80g, b200"),
        ({"system": "h100sxm"}, r"no timings of 'h100sxm' under vllm; did you mean 'h100_sxm'\?"),
        ({"framework": "vlm"}, r"no framework 'vlm'; did you mean 'vllm'\?"),
        ({"framework": "trtllm"}, "no timings of 'h100_sxm' under trtllm"),
        ({"model": "deepseek-v3"}, "deepseek-ai/DeepSeek-V3: latent attention"),
        ({"tensor_parallel": 3}, "32 heads cannot be split over 3 GPUs"),
    ],
)
def test_what_cannot_be_answered_is_said(settings: dict[str, Any], message: str):
    with pytest.raises(SettingFailure, match=message):
        AIConfigurator(**settings)


@pytest.mark.parametrize("kind", ["GEMM", "ContextAttention", "GenerationAttention"])
def test_a_kernel_that_was_not_timed_is_named_at_once(package: SimpleNamespace, kind: str):
    package.handle.missing = kind
    with pytest.raises(SettingFailure, match=r"h100_sxm under vllm: data missing for Key { head_size: 7 }; name"):
        AIConfigurator()


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    with pytest.raises(SettingFailure, match=r"pip install 'trace-toolkit\[aiconfigurator\]'") as failure:
        served_by("aiconfigurator", "h100", "llama-3.1-8b", 1)
    assert "\n" not in str(failure.value)


def test_a_run_names_the_version_of_its_tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "version", {"polars": "2.1.0", "aiconfigurator-core": "0.12.0"}.__getitem__)
    monkeypatch.setattr(runs, "PackageNotFoundError", KeyError)
    found = runs.versions()
    assert (found["polars"], found["aiconfigurator-core"], found["numba"]) == ("2.1.0", "0.12.0", "not installed")
    monkeypatch.setattr(runs, "version", {}.__getitem__)
    assert "aiconfigurator-core" not in runs.versions()


def decode_step_s(model: Any, sequences: int, context: int) -> float:
    each = np.array([float(sequences)])
    return float((model.dense_s(each) + model.head_s(each) + model.decode_attention_s(sequences, each * context))[0])


def prefill_step_s(model: Any, tokens: int) -> float:
    chunk = np.array([float(tokens)])
    return float((model.dense_s(chunk) + model.head_s(np.ones(1)) + model.prefill_attention_s(chunk, np.zeros(1)))[0])


@pytest.mark.parametrize("gpu", sorted(SYSTEMS))
def test_the_package_agrees_with_the_roofline(gpu: str):
    pytest.importorskip("aiconfigurator_core", reason="the extra `aiconfigurator` is not installed")
    timed, worked_out = AIConfigurator(gpu=gpu), Roofline(gpu=gpu)
    assert 0.7 < decode_step_s(timed, 64, 1000) / decode_step_s(worked_out, 64, 1000) < 1.5
    assert 0.7 < prefill_step_s(timed, 2048) / prefill_step_s(worked_out, 2048) < 1.5


def test_the_package_knows_more_gpus_than_the_presets():
    pytest.importorskip("aiconfigurator_core", reason="the extra `aiconfigurator` is not installed")
    systems = ("l40s", "a100_sxm", "h100_sxm", "h200_sxm", "gb200")
    steps = [decode_step_s(AIConfigurator(system=system), 64, 4000) for system in systems]
    assert steps == sorted(steps, reverse=True)
