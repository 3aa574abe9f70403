"""What joins GPUs to their host and to each other, and how long it takes to bring models there and away."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from toolkit import specs
from toolkit.errors import SettingFailure, nearest

Method = Literal["naive", "dram", "parallel"]
METHODS: tuple[Method, ...] = get_args(Method)
PAGE_BYTES = 2 * 2**20  # of the GPU's virtual memory, as kvcached maps it
MAY_BE_ZERO = {"copy_s", "map_s_per_page", "unmap_s_per_page", "unload_s_per_page", "engine_start_s"}


@dataclass(frozen=True)
class Machine:
    """A host, the links of one of its GPUs, and what moving bytes over them costs.

    Rates are of one GPU in one direction. `source` tells by key where each number comes from.
    """

    dram_bytes: float
    dram_bytes_per_s: float  # at which its CPUs read memory, all together
    cpu_flops_per_s: float  # of its CPUs together
    host_link_bytes_per_s: float  # between host and GPU, nominal
    load_bytes_per_s: float  # of weights from host memory to a GPU, into an engine that is up
    engine_start_s: float  # of a load that starts the engine: what it takes besides reading the weights
    storage_bytes_per_s: float  # of that load
    kv_out_bytes_per_s: float
    kv_in_bytes_per_s: float
    copy_s: float  # what each copy of a tensor takes besides its bytes
    map_s_per_page: float  # to create, map and open a page of 2 MB that no buffer holds ready
    unmap_s_per_page: float
    unload_s_per_page: float  # of weights
    naive_points: tuple[tuple[float, float], ...] = ()  # measured: bytes on a GPU, seconds of a load from storage
    peer_links: bool = False  # whether its GPUs reach each other without the host
    migrate_bytes_per_s: float | None = None  # from GPU to GPU; None: by the host's memory
    network_bytes_per_s: float | None = None  # from GPU to GPU of another host; None: by that host's memory
    gather_gpus: int = 1  # GPUs whose links a load of a smaller model fills at most, gathered over the peer links
    source: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                _check(name, value)
        sizes, times = [p[0] for p in self.naive_points], [p[1] for p in self.naive_points]
        if sizes != sorted(set(sizes)) or times != sorted(times) or min([*sizes, *times, 1]) <= 0:
            raise ValueError("naive_points must rise, from above 0")
        if self.migrate_bytes_per_s is not None and not self.peer_links:
            raise ValueError("migrate_bytes_per_s needs peer_links")

    def load_s(self, weight_bytes_per_gpu: float, width: int, method: Method, helpers: int = 8) -> float:
        """Until a model whose weights are on the host is ready on `width` GPUs, the links being its alone.

        `naive` starts an engine and reads from storage; `dram` copies from the host's memory into an engine that is up;
        `parallel` does so in chunks over the links of `helpers` GPUs, the model's own among them, and gathers them.
        """
        if method == "naive":
            return self._naive_s(weight_bytes_per_gpu)
        links = max(width, min(helpers, self.gather_gpus)) if method == "parallel" and self.peer_links else width
        return weight_bytes_per_gpu * width / min(self.load_bytes_per_s * links, self.dram_bytes_per_s)

    def unload_s(self, weight_bytes_per_gpu: float) -> float:
        """Until the memory of a model's weights is free; its GPUs free theirs at the same time."""
        return math.ceil(weight_bytes_per_gpu / PAGE_BYTES) * self.unload_s_per_page

    def migrate_s(self, weight_bytes_per_gpu: float, same_host: bool) -> float:
        """Until a model is ready on other GPUs, each of which takes its part at the same time as the others.

        Where there is no way between the GPUs, or none as fast, the weights come from the memory of the GPU's host.
        """
        again = weight_bytes_per_gpu / self.load_bytes_per_s
        rate = self.migrate_bytes_per_s if same_host else self.network_bytes_per_s
        return again if rate is None else min(again, weight_bytes_per_gpu / rate)

    def kv_out_s(self, bytes: float, copies: int = 0) -> float:
        """To bring KV memory from a GPU to the host in so many copies."""
        return bytes / self.kv_out_bytes_per_s + copies * self.copy_s

    def kv_in_s(self, bytes: float, copies: int = 0) -> float:
        """To bring it back."""
        return bytes / self.kv_in_bytes_per_s + copies * self.copy_s

    def _naive_s(self, size: float) -> float:
        """As measured; between the points on straight lines, beyond them by the rate of storage."""
        points = self.naive_points
        if not points:
            return self.engine_start_s + size / self.storage_bytes_per_s
        for (low, before), (high, after) in pairwise(points):
            if low <= size <= high:
                return before + (after - before) * (size - low) / (high - low)
        nearby, seconds = points[0] if size < points[0][0] else points[-1]
        return max(0.0, seconds + (size - nearby) / self.storage_bytes_per_s)


def machine_preset(name_or_path: str) -> Machine:
    """The machine of replay/presets/machines.yaml of that name, or that a YAML file describes.

    SettingFailure with the nearest name; InputFailure with the file's line.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return _made(specs.load(Path(name_or_path)))
    return _preset(name_or_path)


@cache
def machine_presets() -> Mapping[str, specs.Node]:
    """The entries of replay/presets/machines.yaml."""
    text = (files("replay") / "presets" / "machines.yaml").read_text()
    found: Mapping[str, specs.Node] = specs.parse(text, Path("replay/presets/machines.yaml")).value
    return found


@cache
def _preset(name: str) -> Machine:
    presets = machine_presets()
    if name not in presets:
        hint = f"{nearest(name, presets)}; or give a .yaml file"
        raise SettingFailure(f"no preset '{name}' among the machines", hint=hint)
    return _made(presets[name])


def _made(node: specs.Node) -> Machine:
    """A machine from an entry, its `like` filled in."""
    machine: Machine = specs.build(_filled(node), Machine)
    return machine


def _filled(node: specs.Node) -> specs.Node:
    """What `like` names under the entry's own keys; of its sources those of the numbers that the entry leaves."""
    like = node.get("like")
    if like is None:
        return node
    presets = machine_presets()
    if str(like.value) not in presets:
        raise like.failure(f"no machine '{like.value}'", nearest(str(like.value), presets))
    base = _filled(presets[str(like.value)]).value
    own = {key: value for key, value in node.value.items() if key != "like"}
    source = own.get("source", specs.Node({}, node.file, node.line))
    if isinstance(source.value, dict):
        kept = {key: told for key, told in base["source"].value.items() if key not in own}
        source = specs.Node({**kept, **source.value}, source.file, source.line)
    return specs.Node({**base, **own, "source": source}, node.file, node.line)


def _check(name: str, value: float) -> None:
    if value < 0 or (value == 0 and name not in MAY_BE_ZERO):
        raise ValueError(f"{name} is {value:g}; it must be {'at least' if name in MAY_BE_ZERO else 'above'} 0")
