"""Several engines on a GPU: whom a step slows, who is admitted first, and how far ahead one may step alone."""

import numpy as np

from replay.cluster.pages import serves, show
from replay.simulation.compiled import called, compiled
from replay.simulation.queues import head
from replay.simulation.state import NEVER, NONE
from replay.simulation.steps import fits
from toolkit.placing import READY


@compiled
def neighbours_running(state, pool, e):
    """Engines with running requests beside `e`: the most on any of its GPUs."""
    most = np.int64(0)
    for position in range(pool.engines[e].width):
        g = pool.places[e, position]
        count = np.int64(0)
        for other in range(pool.gpus[g].engines):
            o = pool.hosted[g, other]
            if o != e and state.instances[o].running > 0 and serves(pool, o):
                count += 1
        most = max(most, count)
    return most


@called
def _first_order(all_settings, state, pool, o):
    """The rank of the request that an engine prefills, or of its first waiting one that could be admitted now.

    Infinite where there is neither.
    """
    me, it = state.instances[o], pool.engines[o]
    if me.partial != NONE:
        return state.requests[me.partial].order + 0.0
    if it.status != READY or me.waiting == 0:
        return np.inf
    settings = all_settings[it.model]
    r = head(settings, state, o)
    show(state, pool, o)
    return state.requests[r].order + 0.0 if fits(settings, state, o, r, me.running, me.free) else np.inf


@compiled
def set_bar(all_settings, state, pool, e):
    """Admit nobody to `e` before a request of another engine on its GPUs that ranks first and prefills or could.

    So a GPU prefills one request at a time, in rank order, which is what Moore–Hodgson's sum of times assumes.
    """
    bar = np.inf
    if pool.cluster[0].arbitrates == 1 and state.instances[e].waiting > 0:
        for position in range(pool.engines[e].width):
            g = pool.places[e, position]
            for other in range(pool.gpus[g].engines):
                o = pool.hosted[g, other]
                if o != e:
                    bar = min(bar, _first_order(all_settings, state, pool, o))
    state.instances[e].bar = bar


@compiled
def next_beside(state, pool, e):
    """When something next begins on one of `e`'s GPUs: another engine's step, or a request arrives there."""
    soonest = np.int64(NEVER)
    for position in range(pool.engines[e].width):
        g = pool.places[e, position]
        for other in range(pool.gpus[g].engines):
            o = pool.hosted[g, other]
            model = pool.models[pool.engines[o].model]
            if model.next < model.last:
                soonest = min(soonest, state.requests[pool.arrivals[model.next]].arrival)
            if o != e and pool.engines[o].awake == 1:
                soonest = min(soonest, state.instances[o].clock)
    return soonest
