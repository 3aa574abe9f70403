"""KV memory that balloons: engines take pages of their GPUs as they need blocks, and give back what they free.

An engine knows free blocks only. Before it acts it is *shown* what it may take: blocks in pages of its own, pages that
nobody holds, and pages that hold nothing but other engines' caches, within its limit; afterwards its pages are
*settled*. Pages of different engines are never shared, and an engine packs its blocks: it holds as many pages as they
fill (kvcached prefers partly filled pages; what a long life scatters is not modelled).
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.memory import take
from replay.simulation.state import NEVER
from toolkit.placing import LEAVING, READY


@compiled
def pages_of(pool, e, blocks):
    """Pages that `blocks` blocks of an engine fill."""
    size = pool.cluster[0].page_bytes
    return (blocks * pool.engines[e].block_bytes + size - 1) // size


@compiled
def _spare(pool, e):
    """Pages that hold only an engine's cache."""
    it = pool.engines[e]
    return it.pages - pages_of(pool, e, it.held) if it.cached > 0 else np.int64(0)


@compiled
def _obtainable(pool, e):
    """Pages that an engine could take: the least of its GPUs, those under other engines' caches included."""
    least = np.int64(NEVER)
    for position in range(pool.engines[e].width):
        g = pool.places[e, position]
        pages = pool.gpus[g].free + 0
        for other in range(pool.gpus[g].engines):
            o = pool.hosted[g, other]
            if o != e:
                pages += _spare(pool, o)
        least = min(least, pages)
    return least


@compiled
def show(state, pool, e):
    """Let an engine see what blocks it may take."""
    it, me = pool.engines[e], state.instances[e]
    pages = min(it.pages + _obtainable(pool, e), it.limit)
    blocks = pages * pool.cluster[0].page_bytes // it.block_bytes - it.held - it.cached
    me.idle = blocks
    me.free = blocks + it.cached
    it.granted = it.held + it.cached + blocks


@compiled
def foresee(state, pool, e):
    """Let an engine know what its next step must wait for until it is mapped; it was shown what it may take."""
    it, me = pool.engines[e], state.instances[e]
    me.block_bytes, me.shown, me.pages = it.block_bytes, it.granted, it.pages
    least = np.int64(NEVER)
    for position in range(it.width):
        least = min(least, pool.gpus[pool.places[e, position]].free)
    me.unowned = least


@compiled
def _hold(pool, e, pages):
    """Let an engine hold so many pages of each of its GPUs."""
    it = pool.engines[e]
    for position in range(it.width):
        pool.gpus[pool.places[e, position]].free -= pages - it.pages
    it.pages = pages


@called
def drop_cache(settings, state, pool, e, blocks):
    """Take `blocks` blocks out of an engine's cache, least recently used first, and give back their pages."""
    it, me = pool.engines[e], state.instances[e]
    me.idle = 0
    me.free = it.cached
    take(settings, state, e, blocks)
    it.cached = me.free - me.idle
    _hold(pool, e, pages_of(pool, e, it.held + it.cached))


@called
def drop_caches(all_settings, state, pool, g, sparing):
    """Take pages from the caches of a GPU's engines but `sparing` until nothing is owed."""
    gpu = pool.gpus[g]
    for position in range(gpu.engines):
        o = pool.hosted[g, position]
        it = pool.engines[o]
        if gpu.free >= 0:
            return
        if o != sparing and _spare(pool, o) > 0:
            owed = -gpu.free * pool.cluster[0].page_bytes
            blocks = min(it.cached + 0, (owed + it.block_bytes - 1) // it.block_bytes + 1)
            drop_cache(all_settings[it.model], state, pool, o, blocks)
            if gpu.free < 0 and it.cached > 0:
                drop_cache(all_settings[it.model], state, pool, o, it.cached + 0)


@compiled
def settle(all_settings, state, pool, e):
    """Take note of what an engine holds after it has acted; others' caches give way to it."""
    it, me = pool.engines[e], state.instances[e]
    it.held = it.granted - me.free
    it.cached = me.free - me.idle
    _hold(pool, e, pages_of(pool, e, it.held + it.cached))
    for position in range(it.width):
        g = pool.places[e, position]
        if pool.gpus[g].free < 0:
            drop_caches(all_settings, state, pool, g, e)


@compiled
def serves(pool, e):
    """Whether an engine runs requests."""
    return pool.engines[e].status == READY or pool.engines[e].status == LEAVING
