"""From a cluster's spec and a trace to numbers: replicas, who serves which request, bytes, latency tables, facts."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from replay.cluster.machine import Machine, Method, machine_preset
from replay.cluster.spec import Cluster, Hosted
from replay.latency_models.choosing import served_by
from replay.latency_models.offloaded import Offloaded
from replay.latency_models.slowest import Slowest
from replay.simulation.costs import service_costs
from replay.simulation.hardware import gpu_preset
from replay.simulation.latency import Latency
from replay.simulation.lowering import lower
from replay.simulation.setup import Limits, bounded
from replay.simulation.state import F64, I32
from toolkit.errors import InputFailure, SettingFailure, nearest
from toolkit.protocols import LatencyModel, ServiceCosts


@dataclass(frozen=True)
class Replica:
    """One of a model's copies: what is placed as a unit."""

    name: str
    hosted: Hosted

    @property
    def width(self) -> int:
        return self.hosted.tensor_parallel


def _copies(hosted: Hosted) -> list[str]:
    if hosted.replicas == 1:
        return [hosted.name]
    return [f"{hosted.name}#{copy}" for copy in range(hosted.replicas)]


class Hosting:
    """What a cluster can do for a trace, before anything is placed. Models are replicas here, GPUs are counted."""

    def __init__(self, cluster: Cluster, trace: pl.DataFrame):
        self.cluster = cluster
        self.machine: Machine = machine_preset(cluster.machine)
        self.replicas = [Replica(name, hosted) for hosted in cluster.models for name in _copies(hosted)]
        self.gpu_types = cluster.gpu_types
        self.model_of = self._assign(trace)
        self.trace = self._with_objectives(trace)
        self._check_fit()

    @cached_property
    def memory_bytes(self) -> F64:
        """[g] what weights and KV may use."""
        share, reserve = self.cluster.sharing.memory_share, self.cluster.sharing.reserve_bytes
        return np.array([gpu_preset(t).memory_bytes * share - reserve for t in self.gpu_types])

    @cached_property
    def gpu_names(self) -> tuple[str, ...]:
        return tuple(str(g) for g in range(len(self.gpu_types)))

    @cached_property
    def weight_bytes(self) -> F64:
        """[m] on each of its GPUs."""
        return np.array([r.hosted.weight_bytes_per_gpu for r in self.replicas])

    @cached_property
    def block_bytes(self) -> list[int]:
        """[m] KV of a block on each of its GPUs."""
        tokens = self.cluster.limits.block_tokens
        return [round(r.hosted.kv_bytes_per_gpu * tokens) for r in self.replicas]

    @cached_property
    def limits(self) -> list[Limits]:
        """[m] what an engine of it could do with the largest GPU for itself; as many places for all."""
        each = [self._limits_of(m) for m in range(len(self.replicas))]
        places = max(bounded(limits).max_num_seqs for limits in each)
        return [replace(limits, max_num_seqs=places) for limits in each]

    def _limits_of(self, m: int) -> Limits:
        given, hosted = self.cluster.limits, self.replicas[m].hosted
        pages = (self.memory_bytes.max() - self.weight_bytes[m]) // self.cluster.sharing.page_bytes
        kv_in_s = self.machine.kv_in_s(hosted.kv_bytes_per_gpu * given.block_tokens) / given.block_tokens
        return Limits(
            kv_blocks=max(1, int(pages * self.cluster.sharing.page_bytes // self.block_bytes[m])),
            block_tokens=given.block_tokens,
            max_num_seqs=given.max_num_seqs,
            max_num_batched_tokens=given.max_num_batched_tokens,
            max_model_len=given.max_model_len or hosted.model.max_position_embeddings,
            prefix_caching=given.prefix_caching,
            swap_s_per_token=kv_in_s if given.swap else 0.0,
        )

    def _assign(self, trace: pl.DataFrame) -> I32:
        """[request] the replica that serves it: the model's copies in turn. InputFailure for a model nobody serves."""
        serving = {s: m for m in self.cluster.models for s in (m.serves or (m.name,))}
        if len(self.cluster.models) == 1 and not self.cluster.models[0].serves:
            serving = dict.fromkeys([*trace["model"].unique().to_list()], self.cluster.models[0])
        unserved = trace.filter(~pl.col("model").is_in(list(serving), nulls_equal=True) | pl.col("model").is_null())
        if None not in serving and len(unserved):
            name = unserved["model"][0]
            shown = "an unnamed one" if name is None else f"'{name}'"
            raise InputFailure(
                f"{len(unserved)} requests are for models that nobody serves, as {shown}",
                where="the cluster's models",
                hint=nearest(str(name), [s for s in serving if s]) or "add it to a model's `serves`, or use --model",
            )
        first = {m.name: self._first_of(m) for m in self.cluster.models}
        copies = {m.name: m.replicas for m in self.cluster.models}
        names = trace.select(
            pl.col("model").replace_strict({s: m.name for s, m in serving.items()}, return_dtype=pl.String)
        ).to_series()
        turn = pl.DataFrame({"name": names}).select(pl.int_range(pl.len()).over("name")).to_series()
        at = names.replace_strict(first, return_dtype=pl.Int32) + turn % names.replace_strict(
            copies, return_dtype=pl.Int32
        )
        result: I32 = at.cast(pl.Int32).to_numpy()
        return result

    def _first_of(self, hosted: Hosted) -> int:
        return next(m for m, r in enumerate(self.replicas) if r.hosted is hosted)

    def _with_objectives(self, trace: pl.DataFrame) -> pl.DataFrame:
        """The trace with its models' objectives where it has none of its own."""
        columns = {}
        for name in ("slo_ttft_s", "slo_tpot_s"):
            ours = np.array([getattr(r.hosted, name) or np.nan for r in self.replicas])[self.model_of]
            columns[name] = pl.coalesce(pl.col(name), pl.Series(ours, nan_to_null=True))
        return trace.with_columns(**columns)

    def _check_fit(self) -> None:
        """Refuse a model that fits nowhere, and a trace that needs more GPUs for one model than there are."""
        room = np.sort(self.memory_bytes)[::-1]
        for m, replica in enumerate(self.replicas):
            if replica.width > len(room):
                raise SettingFailure(
                    f"needs {replica.width} GPUs, the cluster has {len(room)}", where=f"model {replica.name}"
                )
            if self.weight_bytes[m] + self.block_bytes[m] > room[replica.width - 1]:
                share, reserve = self.cluster.sharing.memory_share, self.cluster.sharing.reserve_bytes
                raise SettingFailure(
                    f"fits on no GPU: {self.weight_bytes[m] / 2**30:.1f} GiB of weights on each of {replica.width} GPUs"
                    f", of which {room[replica.width - 1] / 2**30:.1f} GiB may be used ({share:.0%} of the memory less "
                    f"{reserve / 2**30:.1f} GiB)",
                    where=f"model {replica.name}",
                    hint="raise its tensor_parallel, or give larger GPUs",
                )

    def latency(self, m: int, types: tuple[str, ...], resident: float = 1.0) -> Latency:
        """The lowered latency model of a replica over GPUs of these types, with a share of its layers there."""
        each = [self._latency_model(m, gpu) for gpu in types]
        model = each[0] if len(each) == 1 else Slowest(each)
        if resident < 1.0:
            model = self._offloaded(model, m, resident)
        mine, longest = self.limits[m], max(x.max_model_len for x in self.limits)
        return lower(model, mine.max_num_batched_tokens, mine.max_num_seqs, longest)

    def _latency_model(self, m: int, gpu: str) -> LatencyModel:
        hosted = self.replicas[m].hosted
        return served_by(hosted.latency, gpu, hosted.preset, hosted.tensor_parallel)

    def _offloaded(self, model: LatencyModel, m: int, resident: float) -> LatencyModel:
        return Offloaded(model, resident, self.machine, self.replicas[m].hosted.model)

    def costs(self, m: int, latency: Latency) -> ServiceCosts:
        mine = self.trace.filter(pl.Series(self.model_of == m))
        return service_costs(mine, self.limits[m], latency)

    def load_s(self, m: int, method: Method, resident: float = 1.0) -> float:
        return self.machine.load_s(self.weight_bytes[m] * resident, self.replicas[m].width, method)
