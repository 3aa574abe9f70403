"""Who met the service-level objectives: each and jointly, over all offered requests, and at other scales."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

OBJECTIVES = ("ttft", "tpot", "e2e")
SCALES = np.geomspace(0.1, 10, 161)


@dataclass(frozen=True)
class Objectives:
    """What the user asked for, in seconds; it replaces what the trace says, objective by objective."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def slo(self, name: str) -> pl.Expr:
        """Each request's objective, null where it has none."""
        asked = getattr(self, f"{name}_s")
        if asked is not None:
            return pl.lit(asked, pl.Float64)
        return pl.lit(None, pl.Float64) if name == "e2e" else pl.col(f"slo_{name}_s")

    def fixed(self, name: str, frame: pl.DataFrame) -> float | None:
        """The one objective that all requests share, if they do."""
        values = frame.select(self.slo(name)).to_series().unique().drop_nulls()
        return float(values[0]) if len(values) == 1 else None


def ratios(frame: pl.DataFrame, objectives: Objectives) -> pl.DataFrame:
    """How much of its objective each request used: columns ttft, tpot, e2e, joint; 1 just meets it.

    What failed used infinitely much, one token has no TPOT and uses 0, null where there is no objective. `joint` is
    the largest of the three.
    """
    each = frame.select(_ratio(name, objectives.slo(name)) for name in OBJECTIVES)
    return each.with_columns(joint=pl.max_horizontal(*OBJECTIVES))


def _ratio(name: str, slo_s: pl.Expr) -> pl.Expr:
    missed = pl.lit(float("inf"))
    used = pl.col(f"{name}_s") / slo_s
    defined = used.fill_null(0.0) if name == "tpot" else used.fill_null(missed)
    reached = pl.when(pl.col("status") == "ok").then(defined).otherwise(missed)
    return pl.when(slo_s.is_not_null()).then(reached).alias(name)


def met_by_block(ratio: pl.Series, block_of: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many requests met their objective and how many had one, a block."""
    blocks = int(block_of[-1]) + 1
    asked = ratio.is_not_null().to_numpy().astype(np.float64)
    met = (ratio <= 1).fill_null(False).to_numpy().astype(np.float64)
    return _a_block(met, block_of, blocks), _a_block(asked, block_of, blocks)


def _a_block(weights: NDArray[np.float64], block_of: NDArray[np.int64], blocks: int) -> NDArray[np.float64]:
    return np.bincount(block_of, weights, blocks).astype(np.float64)


def scale_curve(ratio: pl.Series) -> NDArray[np.float64]:
    """The share that would meet an objective SCALES times as long; NaN where nobody has one."""
    known = ratio.drop_nulls().sort().to_numpy()
    if not len(known):
        return np.full(len(SCALES), np.nan)
    return np.searchsorted(known, SCALES, side="right") / len(known)
