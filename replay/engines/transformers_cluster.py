"""Several models on one device in this process, as CLUSTER.yaml describes them and a placement decides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replay.cluster.hosting import Hosting
from replay.cluster.mapping import mapped
from replay.cluster.spec import Cluster, Hosted, Sharing, load_cluster
from replay.engines.transformers import Transformers, common, source_of
from replay.torch_engine.limits import Limits
from toolkit import plugins
from toolkit.errors import SettingFailure

WHERE = "--engine transformers"


@dataclass(frozen=True)
class Serving:
    """Which model of the cluster serves which request."""

    cluster: Cluster

    def __call__(self, trace: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64], dict[str, int]]:
        """(The requests with their objectives, the model of each, what was left out by reason)."""
        served, left_out = mapped(self.cluster, trace)
        hosting = Hosting(self.cluster, served)
        return hosting.trace, hosting.model_of.astype(np.int64), left_out


def from_options(options: dict[str, Any], placement: str) -> Transformers:
    """The engine that `trace replay`'s options describe, under one placement."""
    cluster = load_cluster(Path(options["cluster"]))
    _refuse(cluster, options)
    _refuse_loading(cluster, placement)
    given, sharing = cluster.limits, cluster.sharing
    limits = Limits(
        block_tokens=given.block_tokens,
        max_num_seqs=given.max_num_seqs,
        max_num_batched_tokens=given.max_num_batched_tokens,
        max_model_len=given.max_model_len,
        prefix_caching=given.prefix_caching,
        swap=given.swap,
    )
    return Transformers(
        tuple(source_of(m.name, m.preset) for m in cluster.models),
        limits,
        placement=placement,
        page_bytes=sharing.page_bytes,
        memory_share=sharing.memory_share,
        reserve_bytes=sharing.reserve_bytes,
        serving=Serving(cluster),
        **common(options),
    )


def _refuse(cluster: Cluster, options: dict[str, Any]) -> None:
    """What one real device cannot do must not be passed over in silence."""
    if len(cluster.gpu_types) != 1:
        hint = "describe one, or simulate them with --engine simulated"
        raise SettingFailure(f"has one device, the cluster {len(cluster.gpu_types)} GPUs", where=WHERE, hint=hint)
    if options["slo_scale"] is not None:
        hint = "give the models slo_ttft_s and slo_tpot_s"
        raise SettingFailure(
            "needs replays of each model alone, which are only simulated", where="--slo-scale", hint=hint
        )
    if cluster.sharing.contention != Sharing().contention:
        what = f"measures sharing, and does not follow contention: {cluster.sharing.contention:g}"
        raise SettingFailure(what, where=WHERE, hint="leave it out, or use --engine simulated")
    for model in cluster.models:
        _refuse_model(model)


def _refuse_loading(cluster: Cluster, placement: str) -> None:
    """Weights come from the host's memory; no engine is started for them."""
    said = getattr(plugins.create("placement", placement), "loading", None)
    if (said or cluster.loading) == "naive":
        who = f"--placement {placement}" if said else "loading: naive"
        what = "starts an engine for each load, where --engine transformers copies weights from the host"
        raise SettingFailure(what, where=who, hint="choose another, or use --engine simulated")


def _refuse_model(model: Hosted) -> None:
    plain = Hosted(model.name, model.preset)
    for name in ("tensor_parallel", "replicas", "weight_bytes", "kv_bytes_per_token", "latency"):
        if getattr(model, name) != getattr(plain, name):
            what = f"cannot do as model {model.name} says, {name}: {getattr(model, name)}"
            raise SettingFailure(what, where=WHERE, hint="leave it out, or use --engine simulated")
