"""Fit step times to a finished run, whatever engine made it.

While a request decodes, the engine takes one step for each of its tokens. So the time from its first to its last token
is Σ steps (a + b·n + c·kv) plus what the prefills of others cost in between: all linear in the five coefficients
(`lives`). A prompt that came upon an idle engine tells what prefill costs by itself.
Engines seen from outside (HTTP) do not say when a request got its place: its prefill then ends with its first token and
lasts as long as the fit says. Steps are no even clock either (`step_clock`). Both ask for a fit to begin with, which is
why it is made several times.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import nnls

from replay.calibration.lives import Observed, alone, decoding, lives_of
from replay.calibration.step_clock import even_clock, prefills_begun, step_clock
from toolkit.errors import InputFailure

Values = NDArray[np.float64]
NAMES = ("step_s", "sequence_s", "kv_token_s", "prefill_token_s", "pair_s")
OUTSIDE = "outside_s"  # what a reply from an idle engine takes beyond its step: network, front end, tokenizer
ROUNDS, EVERY = 5, 5  # of fitting; every fifth observation is held back
FEWEST = 25
BUDGET = 2_048  # tokens a step: no engine splits a shorter prompt unless it is told to


def fit_run(outcomes: pl.LazyFrame, where: str, instances: int = 1, budget: int = BUDGET) -> dict[str, Any]:
    """Coefficients by name; `held_back`: the error of decode times that were not fitted to; `fitted`: to what.

    `instances` identical engines served the run, each its share of what was under way.
    """
    lives = lives_of(outcomes)
    begun, clock = np.where(np.isnan(lives.start), lives.first, lives.start), even_clock(lives)
    prefills = alone(lives, budget)
    for _ in range(ROUNDS):
        decodes = decoding(lives, begun, clock.at, instances)
        if len(decodes.seconds) < FEWEST:
            what = f"{len(decodes.seconds)} requests decode with known lengths and times; {FEWEST} are needed for a fit"
            raise InputFailure(what, where=where)
        held = np.arange(len(decodes.seconds)) % EVERY == 0
        solution = _solved(decodes.some(~held), prefills)
        begun = prefills_begun(lives, solution, budget, instances)
        clock = step_clock(lives, begun, solution, budget, instances)
    known = dict(zip(NAMES, map(float, solution), strict=False))
    fitted = {"decodes": int((~held).sum()), "prefills": len(prefills.seconds), OUTSIDE: float(solution[-1])}
    return {**known, "held_back": _errors(decodes.some(held), solution), "fitted": fitted}


def _solved(*parts: Observed) -> Values:
    """The coefficients (none below 0) with the smallest squared relative errors."""
    rows = np.concatenate([part.rows / part.seconds[:, None] for part in parts])
    scale = rows.max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(rows / scale, np.ones(len(rows)))
    return np.asarray(found / scale)


def _errors(held: Observed, solution: Values) -> dict[str, Any]:
    error = held.rows @ solution / held.seconds - 1
    return {
        "requests": len(error),
        "mean_error": float(error.mean()),
        "mape": float(np.abs(error).mean()),
        "p99_absolute_error": float(np.quantile(np.abs(error), 0.99)),
    }
