"""The kernels of one step of a decoder-only transformer on one of the GPUs that share it, by the package's names."""

from dataclasses import dataclass, field

from replay.simulation.hardware import ServedModel
from toolkit.errors import SettingFailure

Modes = dict[str, tuple[str, str]]
Parts = tuple[list["Kernel"], list["Kernel"], list["Kernel"], list["Kernel"]]
WEIGHTS = {  # bytes of a value -> how matrices are held, how experts are
    2.0: ("bfloat16", "bfloat16"),
    1.0: ("fp8", "fp8"),
    0.53125: ("bfloat16", "w4a16_mxfp4"),
}
CACHE = {2.0: "bfloat16", 1.0: "fp8"}


@dataclass(frozen=True)
class Kernel:
    """A class of `aiconfigurator_core.sdk.operations` with its arguments; it runs `times` a step."""

    kind: str
    name: str
    times: int
    shape: dict[str, int | str]
    modes: Modes = field(default_factory=dict)  # argument -> (an enumeration of the package, its member)


def kernels_of(model: ServedModel, gpus: int, experts: str) -> Parts:
    """(Everything but attention and output projection, output projection, prefill attention, decode attention).

    SettingFailure for a model that the package's tables, as they are read here, do not cover.
    """
    _refuse(model, gpus)
    sharing = _Sharing(model, gpus, experts)
    return sharing.dense(), sharing.head(), [sharing.attention("Context")], [sharing.attention("Generation")]


def _refuse(model: ServedModel, gpus: int) -> None:
    where = model.name or model.source
    if model.kv_lora_rank:
        raise SettingFailure(
            "latent attention is not among the kernels that are read", where=where, hint="use roofline"
        )
    if model.bytes_per_value not in WEIGHTS or model.kv_bytes_per_value not in CACHE:
        raise SettingFailure(
            f"no kernels for weights of {model.bytes_per_value} bytes", where=where, hint="use roofline"
        )
    model.check_split(gpus)


@dataclass(frozen=True)
class _Sharing:
    """A model split by tensor parallelism: heads, columns of the first matrix of a pair, rows of the second."""

    model: ServedModel
    gpus: int
    experts: str

    @property
    def heads(self) -> int:
        return self.model.num_attention_heads // self.gpus

    @property
    def kv_heads(self) -> int:
        return -(-self.model.num_key_value_heads // self.gpus)  # a KV head is on several GPUs before it is halved

    def dense(self) -> list[Kernel]:
        m, layers = self.model, self.model.num_hidden_layers
        columns = (self.heads + 2 * self.kv_heads) * m.head_dim
        found = [
            self._moved("Embedding", "embedding", 1, row_size=m.vocab_size // self.gpus, column_size=m.hidden_size),
            self._moved("ElementWise", "norms", 2 * layers, dim_in=2 * m.hidden_size, dim_out=2 * m.hidden_size),
            self._matrix("qkv", layers, columns, m.hidden_size),
            self._matrix("attention_out", layers, m.hidden_size, self.heads * m.head_dim),
            *self._mlp("mlp", layers - m.moe_layers, m.intermediate_size),
            *(self._expert_kernels() if m.moe_layers else []),
        ]
        return [*found, self._reduced(2 * layers + 1)] if self.gpus > 1 else found

    def head(self) -> list[Kernel]:
        return [self._matrix("head", 1, self.model.vocab_size // self.gpus, self.model.hidden_size, "bfloat16")]

    def attention(self, phase: str) -> Kernel:
        cache = ("KVCacheQuantMode", CACHE[self.model.kv_bytes_per_value])
        modes: Modes = {"kv_cache_dtype": cache}
        if phase == "Context":
            modes = {"kvcache_quant_mode": cache, "fmha_quant_mode": ("FMHAQuantMode", "bfloat16")}
        shape: dict[str, int | str] = {"n": self.heads, "n_kv": self.kv_heads, "head_size": self.model.head_dim}
        return Kernel(f"{phase}Attention", "attention", self.model.num_hidden_layers, shape, modes)

    def _expert_kernels(self) -> list[Kernel]:
        m = self.model
        shape: dict[str, int | str] = {
            "hidden_size": m.hidden_size,
            "inter_size": m.moe_intermediate_size,
            "topk": m.num_experts_per_tok,
            "num_experts": m.num_experts,
            "moe_tp_size": self.gpus,
            "moe_ep_size": 1,
            "workload_distribution": self.experts,
            "attention_dp_size": 1,
        }
        mode = {"quant_mode": ("MoEQuantMode", WEIGHTS[m.bytes_per_value][1])}
        return [
            self._matrix("router", m.moe_layers, m.num_experts, m.hidden_size, "bfloat16"),
            Kernel("MoE", "experts", m.moe_layers, shape, mode),
            *self._mlp("shared_experts", m.moe_layers, m.n_shared_experts * m.moe_intermediate_size),
        ]

    def _mlp(self, name: str, layers: int, width: int) -> list[Kernel]:
        """Gate and up projections as one matrix, their activation, and the projection down."""
        if not layers or not width:
            return []
        own, hidden = width // self.gpus, self.model.hidden_size
        return [
            self._matrix(f"{name}_up", layers, 2 * own, hidden),
            self._moved("ElementWise", f"{name}_activation", layers, dim_in=2 * own, dim_out=own),
            self._matrix(f"{name}_down", layers, hidden, own),
        ]

    def _matrix(self, name: str, times: int, columns: int, rows: int, mode: str | None = None) -> Kernel:
        kept = mode or WEIGHTS[self.model.bytes_per_value][0]
        return Kernel("GEMM", name, times, {"n": columns, "k": rows}, {"quant_mode": ("GEMMQuantMode", kept)})

    def _moved(self, kind: str, name: str, times: int, **shape: int | str) -> Kernel:
        """What only moves bytes; the package works its time out from the memory's bandwidth."""
        return Kernel(kind, name, times, shape)

    def _reduced(self, times: int) -> Kernel:
        return Kernel("CustomAllReduce", "all_reduce", times, {"h": self.model.hidden_size, "tp_size": self.gpus})
