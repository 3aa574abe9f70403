"""What a placement is told and shown (toolkit.placing), from the hosting and the state."""

from collections.abc import Sequence

import numpy as np

from replay.cluster.controller import Controller
from replay.cluster.hosting import Hosting
from replay.cluster.machine import Method
from replay.cluster.setup import SLOTS
from replay.simulation.state import F64, PS
from toolkit.placing import ABSENT, READY, Facts, View, Why
from toolkit.protocols import ServiceCosts


def facts_of(hosting: Hosting, costs: Sequence[ServiceCosts], method: Method) -> Facts:
    """What does not change during a replay; `costs` are the models'."""
    trace, machine = hosting.trace, hosting.machine
    models, gpus = len(hosting.replicas), len(hosting.gpu_types)
    arrival = trace["arrival_s"].fill_null(0.0).to_numpy()
    future = tuple(np.sort(arrival[hosting.model_of == m]) for m in range(models))
    span = max(float(arrival.max(initial=0.0)), 1e-9)
    tokens = (trace["prompt_tokens"].fill_null(0) + trace["output_tokens"].fill_null(0)).to_numpy()
    longest = np.zeros(models)
    np.maximum.at(longest, hosting.model_of, tokens)
    kv = np.array([r.hosted.kv_bytes_per_gpu for r in hosting.replicas])
    loads = np.array([hosting.load_s(m, method) for m in range(models)])
    fits = hosting.weight_bytes[:, None] < hosting.memory_bytes[None, :]
    return Facts(
        models=tuple(r.name for r in hosting.replicas),
        gpus=hosting.gpu_names,
        host=np.arange(gpus) // hosting.cluster.gpus_per_host,
        memory_bytes=hosting.memory_bytes,
        weight_bytes=hosting.weight_bytes,
        width=np.array([r.width for r in hosting.replicas]),
        kv_bytes_per_token=kv,
        least_kv_bytes=kv * longest,
        slo_ttft_s=_objective(hosting, "slo_ttft_s"),
        slo_tpot_s=_objective(hosting, "slo_tpot_s"),
        load_s=np.where(fits, loads[:, None], np.inf),
        restore_s=np.array([hosting.load_s(m, "dram") for m in range(models)]),
        prefill_s_per_token=np.array([c.prefill_s_per_token for c in costs]),
        decode_s_per_token=np.array([c.decode_s_per_token for c in costs]),
        requests_per_s=np.array([len(f) for f in future]) / span,
        tokens_per_s=np.bincount(hosting.model_of, weights=tokens, minlength=models) / span,
        future=future,
        peer_links=machine.peer_links,
    )


def _objective(hosting: Hosting, name: str) -> F64:
    """[m] the median of what its requests ask for; NaN where they ask for nothing."""
    values = hosting.trace[name].to_numpy()
    made = np.full(len(hosting.replicas), np.nan)
    for m in range(len(made)):
        mine = values[hosting.model_of == m]
        mine = mine[~np.isnan(mine)]
        made[m] = np.median(mine) if len(mine) else np.nan
    return made


def view_of(controller: Controller, now: int, why: Why, model: int) -> View:
    """What stands at `now`."""
    engines, models = controller.engines, controller.models
    at = models["engine"].copy()
    status = np.minimum(engines["status"][at], READY)
    moving = engines["status"][at ^ 1] != ABSENT
    seen = controller.glance()
    there = controller.pool.places[at].tolist(), engines["width"][at].tolist()
    free = controller.gpus["free"] * float(controller.hosting.cluster.sharing.page_bytes)
    active = models["active"]
    busy = seen.waiting + seen.running > 0
    return View(
        now_s=now / PS,
        why=why,
        model=model,
        state=status,
        gpus=tuple(tuple(places[:width]) for places, width in zip(*there, strict=True)),
        resident=controller.resident[at],
        moving=moving,
        waiting=seen.waiting,
        running=seen.running,
        oldest_s=seen.oldest_s,
        last_active_s=np.where(busy, now / PS, np.where(active < 0, -np.inf, np.minimum(active, now) / PS)),
        ready_s=controller.ready[at],
        kv_bytes=controller.kv_bytes().reshape(-1, SLOTS).sum(axis=1),
        kv_limit=controller.kv_limit[at],
        arrived=models["arrived"].copy(),
        prompt_tokens=seen.prefilled,
        output_tokens=seen.emitted,
        weight_bytes=controller.weights.copy(),
        free_bytes=free,
    )
