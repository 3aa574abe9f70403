"""CLUSTER.yaml: which GPUs there are, what joins them, and which models they serve."""

from dataclasses import dataclass, field
from pathlib import Path

from replay.cluster.machine import Method
from replay.simulation.hardware import GPU, ServedModel, gpu_preset, model_preset
from toolkit import specs
from toolkit.errors import Failure, InputFailure


@dataclass(frozen=True)
class GPUs:
    """GPUs of one type."""

    type: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; it must be at least 1")

    @property
    def gpu(self) -> GPU:
        return gpu_preset(self.type)


@dataclass(frozen=True)
class Hosted:
    """A model that the cluster serves: `serves` names the trace's models whose requests it answers, by default its own.

    Or it serves the trace's model of popularity `rank` (1: the most popular), its requests `shift_s` later.
    Bytes are worked out from the preset where they are not given; `kv_bytes_per_token` is of the whole model, as are
    `weight_bytes`. `replicas` are placed apart from each other, and share its requests in turn.
    """

    name: str
    preset: str
    serves: tuple[str, ...] = ()
    slo_ttft_s: float | None = None
    slo_tpot_s: float | None = None
    tensor_parallel: int = 1
    replicas: int = 1
    weight_bytes: float | None = None
    kv_bytes_per_token: float | None = None
    latency: str = "roofline"
    rank: int | None = None
    shift_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rank is not None and self.serves:
            raise ValueError("a model has a rank or says what it serves, not both")
        for name in ("tensor_parallel", "replicas", "rank"):
            if (getattr(self, name) or 1) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("slo_ttft_s", "slo_tpot_s", "weight_bytes", "kv_bytes_per_token"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value:g}; it must be above 0")

    @property
    def model(self) -> ServedModel:
        return model_preset(self.preset)

    @property
    def weight_bytes_per_gpu(self) -> float:
        if self.weight_bytes is not None:
            return self.weight_bytes / self.tensor_parallel
        return self.model.weight_bytes_per_gpu(self.tensor_parallel)

    @property
    def kv_bytes_per_gpu(self) -> float:
        """KV of a token on each of its GPUs."""
        if self.kv_bytes_per_token is None:
            return self.model.kv_bytes_per_gpu(self.tensor_parallel)
        return self.kv_bytes_per_token / min(self.tensor_parallel, self.model.num_key_value_heads)


@dataclass(frozen=True)
class EngineLimits:
    """What every engine of the cluster can do in a step, under vLLM's names."""

    block_tokens: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int | None = None  # the model's own
    prefix_caching: bool = True
    swap: bool = False  # preempted requests keep their KV on the host, at the machine's link rate


@dataclass(frozen=True)
class Sharing:
    """How models share a GPU.

    A step takes (1 + contention × others that run) of its own time: 1 is fair sharing of time, 0 as if each was alone.
    What MPS or streams win over 1 is not in any of the papers; it depends on the mix of prefill and decode.
    """

    contention: float = 1.0
    page_bytes: int = 2 * 2**20  # kvcached's physical pages
    memory_share: float = 0.9  # of a GPU, for weights, KV and `reserve_bytes`, as vLLM sizes its cache
    reserve_bytes: float = 2 * 2**30  # of a GPU, for activations and graphs
    ready_pages: int = 10  # that a thread keeps mapped for each engine: kvcached keeps 5 to 10

    def __post_init__(self) -> None:
        if not 0 <= self.contention <= 8:
            raise ValueError(f"contention is {self.contention:g}; it lies between 0 and 8")
        if not 0 < self.memory_share <= 1:
            raise ValueError(f"memory_share is {self.memory_share:g}; it lies between 0 and 1")
        if self.page_bytes < 1:
            raise ValueError(f"page_bytes is {self.page_bytes}; it must be at least 1")
        if self.ready_pages < 0:
            raise ValueError(f"ready_pages is {self.ready_pages}; it must be at least 0")


@dataclass(frozen=True)
class Cluster:
    """Everything that CLUSTER.yaml says."""

    gpus: tuple[GPUs, ...]
    models: tuple[Hosted, ...]
    machine: str = "h100-sxm"  # a preset of replay/presets/machines.yaml, or a YAML file like it
    gpus_per_host: int = 8
    loading: Method = "parallel"
    limits: EngineLimits = field(default_factory=EngineLimits)
    sharing: Sharing = field(default_factory=Sharing)

    def __post_init__(self) -> None:
        if not self.gpus or not self.models:
            raise ValueError("a cluster needs gpus and models")
        if self.gpus_per_host < 1:
            raise ValueError(f"gpus_per_host is {self.gpus_per_host}; it must be at least 1")
        names = [m.name for m in self.models]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise ValueError(f"the model '{twice}' is named twice")
        served = [s for m in self.models for s in (m.serves or (m.name,))]
        twice = next((s for s in served if served.count(s) > 1), None)
        if twice is not None:
            raise ValueError(f"two models serve '{twice}'")

    @property
    def gpu_types(self) -> list[str]:
        """The type of each GPU."""
        return [g.type for g in self.gpus for _ in range(g.count)]


def load_cluster(path: Path) -> Cluster:
    """Read CLUSTER.yaml; InputFailure names the line that does not fit."""
    node = specs.load(path)
    cluster: Cluster = specs.build(node, Cluster)
    for key, read in (("gpus", "type"), ("models", "preset")):
        for entry in (node.get(key) or node).value:
            _known(entry.get(read), gpu_preset if key == "gpus" else model_preset)
    return cluster


def _known(node: specs.Node | None, preset: object) -> None:
    """Let a wrong preset be named by its line."""
    if node is None or not callable(preset):
        return
    try:
        preset(str(node.value))
    except Failure as failure:
        raise InputFailure(failure.what, where=node.where, hint=failure.hint) from failure
