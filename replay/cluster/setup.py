"""From a hosting and a policy to the first state of a cluster: nothing has arrived, nothing is placed."""

from dataclasses import replace

import numpy as np

from replay.cluster.hosting import Hosting
from replay.cluster.state import CLUSTER, ENGINE, GPU, MODEL, SAMPLE_COLUMNS, Pool
from replay.simulation import setup
from replay.simulation.policies import Policy
from replay.simulation.state import I32, I64, NEVER, PS, SAMPLE_ROWS, SETTINGS, WHOLE, Records, State
from toolkit.placing import ABSENT

SAMPLES = 200_000  # timeline rows of a whole replay, about
SLOTS = 2  # engines a model has: one serves, the other is where it migrates to


def settings_of(
    hosting: Hosting, policy: Policy, span_s: float, blocks: tuple[int, I64], *, jump: bool, closed: bool
) -> Records:
    """[m] SETTINGS: what every engine of a model goes by."""
    models = len(hosting.replicas)
    rows = max(50, min(2_000, SAMPLES // models))
    every = max(1, int(max(span_s, 1.0) * PS) // rows)
    hash_tokens, distinct = blocks
    made = np.zeros(models, SETTINGS).view(np.recarray)
    for m, limits in enumerate(hosting.limits):
        made[m] = setup.settings_of(limits, 0, hash_tokens, every, jump=jump, closed=closed)
        policy.write(made[m])
        made[m].closed, made[m].own_nodes = closed, own_nodes(hosting, distinct)
    return made


def shared_blocks(hosting: Hosting, hash_tokens: int) -> tuple[I32, I64, I64]:
    """(Block numbers of all requests, each model's from 0; where each request's begin; distinct blocks by model)."""
    models = len(hosting.replicas)
    numbers, bounds, distinct = setup.shared_blocks(hosting.trace, hash_tokens, hosting.limits[0])
    if not distinct:
        return numbers, bounds, np.zeros(models, np.int64)
    owner = np.repeat(hosting.model_of.astype(np.int64), np.diff(bounds))
    pairs, dense = np.unique(owner * distinct + numbers, return_inverse=True)
    counts = np.bincount(pairs // distinct, minlength=models)
    starts = np.cumsum(counts) - counts
    return (dense - starts[owner]).astype(np.int32), bounds, counts


def first_state(hosting: Hosting, policy: Policy, think: I64, blocks: tuple[I32, I64, I64], *, elastic: bool) -> State:
    """Nothing has arrived yet, and no engine has memory; `elastic`: it is mapped page by page."""
    numbers, bounds, distinct = blocks
    engines = SLOTS * len(hosting.replicas)
    room = -(-SLOTS * int(distinct.sum()) // engines)
    limits = replace(hosting.limits[0], instances=engines)
    state = setup.first_state(hosting.trace, policy, think, (numbers, bounds, room), limits)
    state.instances["free"] = state.instances["idle"] = 0
    state.instances["page_bytes"] = hosting.cluster.sharing.page_bytes
    if elastic:
        state.instances["ready"] = hosting.cluster.sharing.ready_pages
        state.instances["map_page"] = round(hosting.machine.map_s_per_page * PS)
        state.instances["unmap_page"] = round(hosting.machine.unmap_s_per_page * PS)
    state.instances["first_node"] = np.repeat(SLOTS * (np.cumsum(distinct) - distinct), SLOTS)
    state.instances["first_node"][1::SLOTS] += distinct
    return state._replace(sample=np.zeros((SAMPLE_ROWS, SAMPLE_COLUMNS), np.int64))


def own_nodes(hosting: Hosting, distinct: I64) -> int:
    """The node of request 0's own blocks: those of shared blocks come before."""
    engines = SLOTS * len(hosting.replicas)
    return engines * -(-SLOTS * int(distinct.sum()) // engines)


def first_pool(hosting: Hosting, think: I64, *, arbitrates: bool) -> Pool:
    """Every model is absent, every page is free."""
    models, gpus = len(hosting.replicas), len(hosting.gpu_types)
    engines = SLOTS * models
    widest = max(r.width for r in hosting.replicas)
    sharing = hosting.cluster.sharing
    made = Pool(
        cluster=np.zeros(1, CLUSTER).view(np.recarray),
        engines=np.zeros(engines, ENGINE).view(np.recarray),
        gpus=np.zeros(gpus, GPU).view(np.recarray),
        models=np.zeros(models, MODEL).view(np.recarray),
        places=np.full((engines, widest), -1, np.int64),
        hosted=np.full((gpus, engines), -1, np.int64),
        model_of=hosting.model_of,
        arrivals=_by_model(hosting.model_of, think),
        awake=np.zeros(engines + 1, np.int64),
        clock=np.zeros(engines, np.int64),
        slot=np.zeros(engines, np.int32),
    )
    cluster = made.cluster[0]
    cluster.page_bytes, cluster.arbitrates, cluster.notice = sharing.page_bytes, arbitrates, NEVER
    cluster.contention = round(sharing.contention * WHOLE)
    made.engines["model"] = np.repeat(np.arange(models), SLOTS)
    made.engines["status"], made.engines["limit"] = ABSENT, NEVER
    made.engines["block_bytes"] = np.repeat(np.array(hosting.block_bytes), SLOTS)
    made.gpus["free"] = hosting.memory_bytes // sharing.page_bytes
    made.models["engine"] = SLOTS * np.arange(models)
    made.models["active"] = -1
    open_of = hosting.model_of[think < 0]
    made.models["last"] = np.cumsum(np.bincount(open_of, minlength=models))
    made.models["next"] = made.models["last"] - np.bincount(open_of, minlength=models)
    return made


def _by_model(model_of: I32, think: I64) -> I64:
    """Requests that arrive by the trace's clock, by model and then by arrival."""
    opened = np.flatnonzero(think < 0)
    result: I64 = opened[np.argsort(model_of[opened], kind="stable")].astype(np.int64)
    return result
