"""The time that mapping KV memory takes where it balloons page by page.

Pages that a step needs beyond those an engine has ready are mapped before it runs, one after the other; while it runs a
thread makes as many ready again. A page that another engine's cache must give is unmapped first. What an engine frees
it unmaps after the step.
"""

import numpy as np

from replay.simulation.compiled import compiled


@compiled
def _none(me):
    return me.map_page == 0 and me.unmap_page == 0


@compiled
def pages_mapped(me):
    """Pages that an engine's blocks fill, those taken since it was shown what it may take too; 0 where it maps none."""
    return np.int64(0) if _none(me) else ((me.shown - me.idle) * me.block_bytes + me.page_bytes - 1) // me.page_bytes


@compiled
def mapping_time(me):
    """Time before the step at hand until the pages of its blocks are mapped."""
    more = pages_mapped(me) - me.pages
    return max(more - me.ready, np.int64(0)) * me.map_page + max(more - me.unowned, np.int64(0)) * me.unmap_page


@compiled
def _within(settings, state, i, blocks, most):
    """How many of `most` decode steps take no more than `blocks` blocks together, not counting those of the first."""
    size, me = settings.block_tokens, state.instances[i]
    steps = 1 + blocks // me.decodes * size
    left = blocks % me.decodes
    while steps < most:
        left -= state.residue[i, (me.decoded + steps) % size]
        if left < 0:
            break
        steps += 1
    return min(steps, most)


@compiled
def mapped_meanwhile(settings, state, i, most):
    """How many of `most` decode steps, of which the first waits for no page, surely wait for none."""
    me = state.instances[i]
    if _none(me) or most <= 1:
        return most
    unowned = (me.pages + me.unowned) * me.page_bytes // me.block_bytes - (me.shown - me.idle)
    most = _within(settings, state, i, max(unowned, np.int64(0)), most)
    for step in range(1, min(most, settings.block_tokens + 1)):
        blocks = np.int64(state.residue[i, (me.decoded + step) % settings.block_tokens])
        if blocks * me.block_bytes > me.ready * me.page_bytes:
            return np.int64(step)
    return most
