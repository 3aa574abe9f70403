"""The time that mapping KV memory takes where it balloons page by page.

Pages that a step needs beyond those an engine has ready are mapped before it runs, one after the other; while it runs a
thread makes as many ready again. A page that another engine's cache must give is unmapped first. What an engine frees
it unmaps after the step.
"""

import numpy as np

from replay.simulation.compiled import called, compiled
from replay.simulation.jumps import needed, steps_within


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


@called
def mapped_meanwhile(settings, state, i, most):
    """How many of `most` decode steps, of which the first waits for no page, surely wait for none."""
    me = state.instances[i]
    if _none(me) or most <= 1:
        return most
    unowned = (me.pages + me.unowned) * me.page_bytes // me.block_bytes - (me.shown - me.idle)
    most = steps_within(settings, state, i, max(unowned, np.int64(0)) + needed(settings, state, i), most)
    for step in range(1, min(most, settings.block_tokens + 1)):
        blocks = np.int64(state.residue[i, (me.decoded + step) % settings.block_tokens])
        if blocks * me.block_bytes > me.ready * me.page_bytes:
            return np.int64(step)
    return most
