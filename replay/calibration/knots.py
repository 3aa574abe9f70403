"""How well a profile predicts what was left out of it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replay.latency_models.profile_tables import read_attention, read_dense

Values = NDArray[np.float64]


def held_back_knots(folder: Path) -> dict[str, float]:
    """Relative errors at every second knot (dense time by tokens, decode attention by context), predicted by others."""
    layer, _once = read_dense(folder)
    knots, grid = read_attention(folder)
    errors = [_left_out(layer.at, layer.seconds)]
    errors += [_left_out(knots[3][1:], row[1:]) for row in grid[0, 0, 1:]]
    error = np.concatenate(errors)
    if error.size == 0:
        return {"knots": 0}
    return {"knots": error.size, "mean_error": float(error.mean()), "mape": float(np.abs(error).mean())}


def _left_out(at: Values, seconds: Values) -> Values:
    inner = np.arange(1, at.size - 1, 2)
    error: Values = np.interp(at[inner], np.delete(at, inner), np.delete(seconds, inner)) / seconds[inner] - 1
    return error
