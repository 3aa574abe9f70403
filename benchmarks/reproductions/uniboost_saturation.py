"""At which load a policy saturates, and how far another moves that."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from benchmarks.reproductions.tables import Estimate
from benchmarks.reproductions.uniboost_tables import geometric, values

SATURATED = 2.0  # times the mean TTLT of FCFS at the lightest load: where a policy counts as saturated


def shifts(loads: pl.DataFrame, policy: str, other: str) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """The load that saturates `policy` over that of `other`, by workload and engine; none where none does."""
    for key, found in loads.group_by("workload", "engine", maintain_order=True):
        seeds = [found.filter(seed=seed) for seed in found["seed"].unique().sort()]
        knees = np.array([[knee(one, policy), knee(one, other)] for one in seeds])
        known = knees[np.isfinite(knees).all(axis=1)]
        if len(known):
            yield (str(key[0]), str(key[1])), geometric(np.log(known[:, 0]) - np.log(known[:, 1]))


def knee(found: pl.DataFrame, policy: str) -> float:
    """The ρ at which one seed's mean TTLT is SATURATED times FCFS's at the lightest load, between loads linearly.

    NaN where that is not between the loads that were replayed.
    """
    bound = SATURATED * values(found.filter(pl.col("rho") == pl.col("rho").min()), "ttlt_mean", "FCFS")[0]
    curve = found.filter(policy=policy).sort("rho")
    rho, mean = curve["rho"].to_numpy(), curve["ttlt_mean"].to_numpy()
    beyond = np.flatnonzero(mean >= bound)
    if not len(beyond) or beyond[0] == 0:
        return float("nan")
    at = slice(int(beyond[0]) - 1, int(beyond[0]) + 1)
    return float(np.interp(bound, mean[at], rho[at]))
