"""What a placement is told and shown of one device (toolkit.placing)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from replay.planning.jobs import Job
from replay.torch_engine.costs import Costs
from toolkit.placing import ABSENT, Facts, Floats, View, Why

if TYPE_CHECKING:
    from replay.torch_engine.house import House


def facts_of(
    house: "House", jobs: Sequence[Job], costs: Sequence[Costs], slo_ttft_s: Floats, slo_tpot_s: Floats
) -> Facts:
    """What does not change: bytes as pages hold them, and seconds as they were measured."""
    models, memory = len(house.models), float(house.arena.pages * house.arena.page_bytes)
    weights = np.array([house.hosting.weight_pages(m) * house.arena.page_bytes for m in range(models)], float)
    mine = [[job for job in jobs if job.model == m] for m in range(models)]
    span_s = max([1e-9, *(job.arrival_s for job in jobs)])
    tokens = np.array([sum(j.prompt + j.output for j in some) for some in mine], float)
    longest = np.array([_longest(house, m, some) for m, some in enumerate(mine)], float)
    kv_bytes = np.array([float(m.shape.token_bytes) for m in house.models])
    load_s = np.array([c.load_s for c in costs])
    return Facts(
        models=tuple(m.name for m in house.models),
        gpus=("0",),
        host=np.zeros(1, np.int64),
        memory_bytes=np.array([memory]),
        weight_bytes=weights,
        width=np.ones(models, np.int64),
        kv_bytes_per_token=kv_bytes,
        least_kv_bytes=kv_bytes * longest,
        slo_ttft_s=slo_ttft_s,
        slo_tpot_s=slo_tpot_s,
        load_s=np.where(weights < memory, load_s, np.inf)[:, None],
        restore_s=load_s,
        prefill_s_per_token=np.array([c.prefill_s_per_token for c in costs]),
        decode_s_per_token=np.array([c.decode_s_per_token for c in costs]),
        requests_per_s=np.array([len(some) for some in mine]) / span_s,
        tokens_per_s=tokens / span_s,
        future=tuple(np.sort([j.arrival_s for j in some]) for some in mine),
        peer_links=False,
    )


def _longest(house: "House", m: int, jobs: Sequence[Job]) -> int:
    """Tokens of the longest request that can be served at all."""
    engine, most = house.engines[m], house.most_blocks(m)
    return max((j.prompt + j.output for j in jobs if engine.refusal(j, most) is None), default=0)


def view_of(house: "House", why: Why, model: int) -> View:
    """What stands now."""
    engines, hosting, now_s, arena = house.engines, house.hosting, house.now_s(), house.arena
    here = hosting.state != ABSENT
    waiting = np.array([len(e.line) for e in engines])
    running = np.array([len(e.running) for e in engines])
    oldest = [min((job.arrival_s for job in e.line), default=np.nan) for e in engines]
    limits = [np.inf if e.kv.limit is None else float(e.kv.limit * e.kv.block_bytes) for e in engines]
    weights = float(arena.top * arena.page_bytes)
    return View(
        now_s=now_s,
        why=why,
        model=model,
        state=hosting.state.copy(),
        gpus=tuple((0,) if h else () for h in here),
        resident=here.astype(float),
        moving=np.zeros(len(engines), bool),
        waiting=waiting,
        running=running,
        oldest_s=np.array(oldest),
        last_active_s=np.where(waiting + running > 0, now_s, house.last_active_s),
        ready_s=hosting.ready_s.copy(),
        kv_bytes=np.array([float(e.kv.pages * arena.page_bytes) for e in engines]),
        kv_limit=np.array(limits),
        arrived=house.arrived.copy(),
        prompt_tokens=np.array([e.planner.prefilled for e in engines]),
        output_tokens=np.array([e.planner.emitted for e in engines]),
        weight_bytes=np.array([weights]),
        free_bytes=np.array([float(arena.free * arena.page_bytes)]),
    )
