"""Fit step times to a finished run.

While a request decodes, the engine takes one step for each of its tokens. So the time from its first to its last token
is Σ steps (a + b·n + c·kv) plus what the prefills of others cost in between, and Σ n and Σ kv over those steps are the
tokens that all requests produced meanwhile and the contexts they had: all linear in the five coefficients.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure

Values = NDArray[np.float64]
NAMES = ("step_s", "sequence_s", "kv_token_s", "prefill_token_s", "pair_s")
NEEDED = ("start_s", "first_token_s", "finish_s", "prompt_tokens", "output_tokens")
MOST, EVERY = 4_000, 5  # requests looked at; every fifth is held back
FEWEST = 25


def fit_run(outcomes: pl.LazyFrame, where: str) -> dict[str, Any]:
    """Coefficients by name, and `held_back`: the error of the decode time of requests that were not fitted to."""
    from scipy.optimize import nnls

    frame = outcomes.filter(pl.col("status") == "ok").select("request_id", *NEEDED).drop_nulls().sort("request_id")
    known = frame.collect()
    regressors, taken = _regressors(known)
    if len(taken) < FEWEST:
        raise InputFailure(f"{len(taken)} requests decode; {FEWEST} are needed for a fit", where=where)
    held = np.arange(len(taken)) % EVERY == 0
    scale = regressors[~held].max(axis=0)
    scale[scale == 0] = 1.0
    weighted = regressors / taken[:, None]
    found, _residual = nnls(weighted[~held] / scale, np.ones((~held).sum()))
    coefficients = found / scale
    error = weighted[held] @ coefficients - 1
    held_back = {
        "requests": int(held.sum()),
        "mean_error": float(error.mean()),
        "mape": float(np.abs(error).mean()),
        "p99_absolute_error": float(np.quantile(np.abs(error), 0.99)),
    }
    return {**dict(zip(NAMES, map(float, coefficients), strict=True)), "held_back": held_back}


def _regressors(frame: pl.DataFrame) -> tuple[Values, Values]:
    """(A row a request: steps, Σ sequences, Σ KV tokens, prefill tokens, prefill pairs while it decodes; that time)."""
    start, first, finish, prompt, output = (frame[c].cast(pl.Float64).to_numpy() for c in NEEDED)
    which = np.flatnonzero((output > 1) & (finish > first))[:MOST]
    rows = np.empty((which.size, len(NAMES)))
    for row, r in enumerate(which):
        begun, ended = (_share(first, finish, t) * (output - 1) for t in (first[r], finish[r]))
        filled = _share(start, first, finish[r]) - _share(start, first, first[r])
        contexts = (ended - begun) * prompt + (ended**2 - begun**2) / 2
        rows[row] = (
            output[r] - 1,
            (ended - begun).sum(),
            contexts.sum(),
            (filled * prompt).sum(),
            (filled * prompt**2).sum() / 2,
        )
    return rows, (finish - first)[which]


def _share(begin: Values, end: Values, time: float) -> Values:
    """How much of [begin, end] has passed at `time`."""
    return np.clip((time - begin) / np.maximum(end - begin, 1e-12), 0.0, 1.0)
