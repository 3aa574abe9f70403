"""Step times from the kernels that NVIDIA timed for AIConfigurator, by GPU system and serving framework.

The package `aiconfigurator-core` holds the tables and interpolates between their points; what is named here is which
kernels a step runs, and how often. Its times are milliseconds on one GPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.latency_models.kernels import Kernel, kernels_of
from replay.simulation.hardware import model_preset
from toolkit.errors import SettingFailure, nearest

Values = NDArray[np.float64]
WHERE = "latency model aiconfigurator"
INSTALL = "install it with: pip install 'trace-toolkit[aiconfigurator]'"
OTHERWISE = "name another framework=, or use --latency roofline"
FRAMEWORKS = ("vllm", "trtllm", "sglang")
SYSTEMS = {  # GPU preset -> what the package calls it
    "a100-80g": "a100_sxm",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
    "rtxpro6000": "rtx_pro_6000_server",
}


class AIConfigurator:
    """Step times from kernels that NVIDIA timed on A100 to GB300 under vLLM, TensorRT-LLM and SGLang.

    `system` is the package's name of the GPU (h100_sxm, gb200 …), by default that of `gpu`; `framework` is vllm, trtllm
    or sglang. `experts` is how tokens spread over experts: balanced, power_law_1.01 or power_law_1.2. `overhead_s` is
    the host's time a step, which no kernel holds: an assumption, the same as roofline's.
    """

    def __init__(
        self,
        gpu: str = "h100",
        model: str = "llama-3.1-8b",
        system: str | None = None,
        framework: str = "vllm",
        experts: str = "balanced",
        overhead_s: float = 0.0005,
        tensor_parallel: int = 1,
    ):
        self.model, self.overhead_s = model_preset(model), overhead_s
        parts = kernels_of(self.model, tensor_parallel, experts)
        self.tables = _Tables(system or _system_of(gpu), framework)
        self.dense, self.head, self.prefill, self.decode = (self.tables.part(part) for part in parts)
        self._refuse_what_was_not_timed()

    def dense_s(self, tokens: Values) -> Values:
        return self.overhead_s + _each(lambda n: self.tables.token_s(self.dense, n), tokens)

    def head_s(self, sequences: Values) -> Values:
        return np.where(sequences > 0, _each(lambda n: self.tables.token_s(self.head, n), sequences), 0.0)

    def decode_attention_s(self, sequences: int, kv_tokens: Values) -> Values:
        return _each(lambda context: self.tables.decode_s(self.decode, sequences, context), kv_tokens / sequences)

    def prefill_attention_s(self, chunk: Values, prior: Values) -> Values:
        return _each(lambda c, p: self.tables.prefill_s(self.prefill, c, p), chunk, prior)

    def _refuse_what_was_not_timed(self) -> None:
        one = np.ones(1)
        try:
            for part in (self.dense_s(one), self.head_s(one), self.prefill_attention_s(one, one)):
                assert np.isfinite(part).all()
            self.decode_attention_s(1, one)
        except RuntimeError as error:  # the package's PerfDataNotAvailableError
            what = str(error).removeprefix("perf database error: ").split(": tried")[0]
            raise SettingFailure(f"{self.tables.name}: {what}", where=WHERE, hint=OTHERWISE) from error


class _Tables:
    """The timings of one system under one framework."""

    def __init__(self, system: str, framework: str):
        self.name = f"{system} under {framework}"
        if framework not in FRAMEWORKS:
            raise SettingFailure(f"no framework '{framework}'", where=WHERE, hint=nearest(framework, FRAMEWORKS))
        try:
            from aiconfigurator_core.sdk import common, engine, operations, perf_database
        except ImportError as error:
            raise SettingFailure(f"needs a package ({error})", where=WHERE, hint=INSTALL) from error
        self.common, self.operations, self.engine = common, operations, engine
        database = _database(perf_database, system, framework)
        self.handle = engine.EngineHandle.for_database(database, systems_path=database.systems_root)

    def part(self, kernels: list[Kernel]) -> str:
        """Kernels that run one after the other, in the form the package evaluates."""
        made: str = self.engine.build_ops_json([self._made(kernel) for kernel in kernels])
        return made

    def token_s(self, part: str, tokens: int) -> float:
        return self._seconds(part, is_context=True, batch_size=1, s=1, x=max(tokens, 1))

    def prefill_s(self, part: str, chunk: int, prior: int) -> float:
        return self._seconds(part, is_context=True, batch_size=1, s=max(chunk, 1), prefix=prior)

    def decode_s(self, part: str, sequences: int, context: int) -> float:
        return self._seconds(part, is_context=False, batch_size=sequences, s=max(context, 1))

    def _seconds(self, part: str, **at: Any) -> float:
        return float(sum(kernel[1] for kernel in self.handle.evaluate_ops_json(part, **at))) / 1e3

    def _made(self, kernel: Kernel) -> Any:
        modes = {name: getattr(self.common, kind)[value] for name, (kind, value) in kernel.modes.items()}
        return getattr(self.operations, kernel.kind)(kernel.name, kernel.times, **kernel.shape, **modes)


def _each(seconds: Callable[..., float], *at: Values) -> Values:
    """`seconds` of the whole numbers at each place of equally shaped arrays."""
    whole = [np.rint(values).astype(np.int64).ravel().tolist() for values in at]
    return np.array([seconds(*values) for values in zip(*whole, strict=True)], np.float64).reshape(at[0].shape)


def _system_of(gpu: str) -> str:
    if gpu not in SYSTEMS:
        known = ", ".join(sorted(SYSTEMS))
        hint = f"it was timed for {known}; name another as aiconfigurator:system=NAME"
        raise SettingFailure(f"no timings are known for --gpu {gpu}", where=WHERE, hint=hint)
    return SYSTEMS[gpu]


def _database(perf_database: Any, system: str, framework: str) -> Any:
    try:
        found = perf_database.get_database(system, framework, "current")
    except ValueError as error:
        raise _no_system(perf_database, system, framework) from error
    if found is None:
        raise _no_system(perf_database, system, framework)
    return found


def _no_system(perf_database: Any, system: str, framework: str) -> SettingFailure:
    known = [name for name, found in perf_database.get_supported_databases().items() if framework in found]
    return SettingFailure(f"no timings of '{system}' under {framework}", where=WHERE, hint=nearest(system, known))
