"""What happened to one watched request, and when: the story that `trace replay --explain` tells."""

import numpy as np

from replay.simulation.compiled import compiled

# Typed, or Numba would compile what they are given to once for each.
# note[row, 1], and what note[row, 2:] then holds.
ARRIVED, STARTED, FIRST_TOKEN, BOUNDARY, PREEMPTED, TURNED, WAITS, ENDED = map(np.int64, range(8))
# Why it waits (note[row, 2] of WAITS; note[row, 3] is how many are before it).
BEHIND, NO_PLACE, NO_MEMORY, NO_TOKENS, AFTER_PREEMPTION = map(np.int64, range(5))


@compiled
def note(settings, state, r, time, what, a, b):
    """Write down what happened to request `r`, if it is the watched one."""
    if r != settings.watch:
        return
    world = state.world[0]
    if world.notes < state.note.shape[0]:
        row = state.note[world.notes]
        row[0], row[1], row[2], row[3] = time, what, a, b
        world.notes += 1
