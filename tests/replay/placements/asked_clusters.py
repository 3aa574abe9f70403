"""Facts and views to hold decisions of placements against."""

from dataclasses import replace

import numpy as np

from toolkit.placement_contract import many_facts
from toolkit.placing import ABSENT, READY, Facts, View

GIB = 2.0**30


def facts_of(weights_gib: list[float], gpus: int = 2, memory_gib: float = 40.0, **given: object) -> Facts:
    """GPUs of one size, and models of one GPU each."""
    models = len(weights_gib)
    facts = many_facts(models, gpus)
    own = {"memory_bytes": np.full(gpus, memory_gib * GIB), "weight_bytes": np.array(weights_gib) * GIB}
    small = {"least_kv_bytes": np.zeros(models), "kv_bytes_per_token": np.full(models, 1e5)}
    return replace(facts, **{"width": np.ones(models, int), **own, **small, **given})  # type: ignore[arg-type]


def view_of(facts: Facts, where: dict[int, tuple[int, ...]], now_s: float = 100.0, **given: object) -> View:
    """A view of models that are ready, idle since the beginning; `given` says what else there is."""
    models = len(facts.models)
    weights = np.zeros(len(facts.gpus))
    for m, gpus in where.items():
        weights[list(gpus)] += facts.weight_bytes[m]
    zeros = np.zeros(models, np.int64)
    there = np.array([m in where for m in range(models)])
    view = View(
        now_s=now_s,
        why="tick",
        model=-1,
        state=np.where(there, READY, ABSENT),
        gpus=tuple(where.get(m, ()) for m in range(models)),
        resident=there.astype(float),
        moving=np.zeros(models, bool),
        waiting=zeros,
        running=zeros,
        oldest_s=np.full(models, np.nan),
        last_active_s=np.full(models, -np.inf),
        ready_s=np.where(there, 0.0, np.nan),
        kv_bytes=np.zeros(models),
        kv_limit=np.full(models, np.inf),
        arrived=zeros,
        prompt_tokens=zeros,
        output_tokens=zeros,
        weight_bytes=weights,
        free_bytes=facts.memory_bytes - weights,
    )
    return replace(view, **given)  # type: ignore[arg-type]


def asked(models: int, counts: dict[int, int], since_s: float = 99.0) -> dict[str, object]:
    """Requests that wait for models, of a view."""
    waiting, oldest = np.zeros(models, np.int64), np.full(models, np.nan)
    for m, count in counts.items():
        waiting[m], oldest[m] = count, since_s
    return {"waiting": waiting, "oldest_s": oldest}
