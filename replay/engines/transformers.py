"""The engine in this process: Hugging Face models on CPU or CUDA, with our scheduler and placement inside."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from replay.simulation.hardware import model_preset
from replay.torch_engine.limits import Limits
from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.protocols import Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo

ONE_AT_A_TIME = threading.Lock()  # replays under several schedulers must not share a device at the same time
MEMORY_SHARE, RESERVE_BYTES = 0.9, 2 * 2**30  # of a GPU; what activations take


@dataclass(frozen=True)
class Source:
    """A model by name: a folder with config.json (and weights), or the numbers of a Llama-like one."""

    name: str
    at: Path | dict[str, Any]


@dataclass
class Transformers:
    """Continuous batching of Hugging Face models in this process, on CPU or CUDA, in real time.

    Requests arrive at their instants; prompts are made up, outputs forced to the traced lengths, weights random unless
    a folder has some. With a `placement`, several models share the device by it. A replay that is resumed starts over.
    """

    sources: tuple[Source, ...]
    limits: Limits
    device: str = "auto"
    dtype: str | None = None
    memory_bytes: int | None = None  # for weights and KV
    closed: bool = True
    placement: str | None = None
    lag_bound_s: float = 0.01
    page_bytes: int = 2 * 2**20
    memory_share: float = MEMORY_SHARE
    reserve_bytes: float = RESERVE_BYTES
    serving: Any = None  # trace -> (trace, model of each request, what was left out); one model serves all

    def __post_init__(self) -> None:
        if self.placement is not None:
            plugins.create("placement", self.placement)

    def describe(self) -> dict[str, Any]:
        """Its limits, as run.json and the report state them; what is known once the models are built is added."""
        return {
            "name": "transformers",
            "models": [s.name for s in self.sources],
            "limits": {k: v for k, v in asdict(self.limits).items() if v is not None},
            "preempts_by": "swap" if self.limits.swap else "recompute",
            "placement": self.placement,
            "sessions": "closed" if self.closed else "open",
        }

    def check(self, trace: pl.DataFrame, schedulers: Sequence[str]) -> None:
        """Raise SettingFailure before a run is begun for what would fail at once."""
        _in_process().Device.of(self.device)
        if self.serving is not None:
            self.serving(trace)

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Serve the trace in real time; what an earlier attempt wrote is thrown away."""
        with ONE_AT_A_TIME:
            if watch.stopped():
                return False
            writer.truncate({})
            served, model_of, left_out = self.serving(trace) if self.serving else (trace, None, {})
            at = np.zeros(len(served), np.int64) if model_of is None else model_of
            replay = _in_process().Replay(self, served, at)
            finished: bool = replay.run(scheduler, writer, watch, left_out, info.block_tokens or 0)
            return finished


def _in_process() -> ModuleType:
    """What needs torch, and takes seconds to import."""
    try:
        from replay.engines import transformers_replay
    except ImportError as error:
        hint = "install them: pip install 'trace-toolkit[gpu]'"
        raise SettingFailure(
            f"needs torch and transformers ({error})", where="--engine transformers", hint=hint
        ) from error
    return transformers_replay


def from_options(options: dict[str, Any]) -> Transformers:
    """The engine that the command's options describe: one model."""
    if options["model_path"]:
        source = Source(Path(options["model_path"]).name, Path(options["model_path"]))
    else:
        source = source_of(options["model_preset"], options["model_preset"])
    limits = Limits(
        kv_blocks=options["kv_blocks"],
        block_tokens=options["block_tokens"],
        max_num_seqs=options["max_num_seqs"],
        max_num_batched_tokens=options["max_num_batched_tokens"],
        max_model_len=options["max_model_len"],
        prefix_caching=options["prefix_caching"],
        swap=options["preempt_by"] == "swap",
        prefill_first=not options["decode_first"],
    )
    return Transformers((source,), limits, **common(options))


def common(options: dict[str, Any]) -> dict[str, Any]:
    """What one model and several have in common."""
    gib = options["memory_gib"]
    return {
        "device": options["device"],
        "dtype": options["dtype"],
        "memory_bytes": None if gib is None else int(gib * 2**30),
        "closed": options["sessions"] == "closed",
        "lag_bound_s": options["lag_bound_s"],
    }


def source_of(name: str, preset: str) -> Source:
    """A preset's numbers as a Llama-like model, or the folder of a config.json."""
    if preset.endswith(".json"):
        return Source(name, Path(preset).parent)
    numbers = model_preset(preset)
    if numbers.num_experts or numbers.kv_lora_rank:
        hint = "give its config.json"
        raise SettingFailure(
            "has experts or latent attention, of which a preset says too little", where=preset, hint=hint
        )
    fields = (
        "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
        "head_dim", "vocab_size", "max_position_embeddings", "tie_word_embeddings",
    )  # fmt: skip
    return Source(name, {field: getattr(numbers, field) for field in fields})
