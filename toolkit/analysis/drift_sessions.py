"""How much a request adds to the variance of a long sum when requests of one session resemble each other.

Sessions interleave, so neighbours hardly resemble each other though every session has lengths of its own; the sums of
whole sessions show it (a cluster-robust variance).
"""

import numpy as np
import polars as pl

from toolkit.analysis.drift_bins import Binned

UNIT = 2**24  # of a score: sums of whole numbers do not depend on the order in which threads add them up
LOCAL = 32  # parts of the trace whose own mean is taken out first: a drift is no resemblance


def session_variance(binned: Binned, sessions: pl.Series) -> float:
    """1 for independent requests, 1 + ρ·(turns − 1) for equal sessions of correlation ρ; 0 where there are none.

    Of normal scores of the bins. `sessions` has the session of each request; one without is a session of its own.
    """
    if not binned.ordered or sessions.null_count() > len(sessions) / 2 or len(sessions) != binned.requests:
        return 0.0
    from scipy.special import ndtri

    counts = binned.counts.sum(axis=0)
    score = ndtri((np.cumsum(counts) - counts / 2) / counts.sum())[binned.codes]
    part = np.arange(len(score)) * LOCAL // len(score)
    score -= (np.bincount(part, weights=score) / np.maximum(np.bincount(part), 1))[part]
    apart = (
        sessions.hash().fill_null(pl.Series(binned.request_id).cast(pl.UInt64)) if sessions.null_count() else sessions
    )
    whole = np.rint(score * UNIT).astype(np.int64)
    sums = pl.DataFrame({"session": apart, "score": whole}).group_by("session").agg(pl.col("score").sum())["score"]
    own = float(score @ score)
    together = np.sort(sums.to_numpy()) / UNIT
    return float(together @ together) / own if own else 0.0
