"""The folder of a sweep, as `trace sweep` writes it and as `trace query` and the page read it.

DIR/sweep.json        everything that was asked for, a hash of it, versions, state
DIR/points/*.parquet  one row each, while the sweep is going on
DIR/sweep.parquet     all rows, once it has ended     DIR/capacity.parquet   what a search found
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from toolkit.errors import InputFailure
from toolkit.schema import CAPACITY, SWEEP, conform
from toolkit.stats import mean_interval, share_interval

AXES = ("placement", "scheduler", "gpus", "load", "slo_scale_ttft", "slo_scale_tpot")
ATTAINMENTS = ("attainment", "attainment_ttft", "attainment_tpot")
RESULTS = [name for name, dtype in SWEEP.items() if dtype.is_numeric() and name not in (*AXES, "seed")]
COUNTS = ("requests", "ok", "rejected", "with_slo")


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on disk. `info` is sweep.json as it was when the folder was opened."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "SweepFolder":
        try:
            info = orjson.loads((path / "sweep.json").read_bytes())
        except FileNotFoundError as error:
            hint = "name a folder that `trace sweep --out` made"
            raise InputFailure("no sweep.json in it", where=str(path), hint=hint) from error
        except (orjson.JSONDecodeError, OSError) as error:
            raise InputFailure(f"sweep.json cannot be read ({error})", where=str(path)) from error
        return cls(path, info)

    def table(self) -> pl.DataFrame:
        """SWEEP as far as it is done, in the order of the lists that were given."""
        files = [f for f in (self.path / "sweep.parquet",) if f.is_file()] + sorted(self.path.glob("points/*.parquet"))
        if not files:
            return pl.DataFrame(schema=SWEEP)
        rows = pl.concat([conform(pl.read_parquet(f, glob=False), SWEEP, source=str(f)) for f in files])
        return in_order(rows.unique("point", keep="last"), self.info)

    def capacity(self) -> pl.DataFrame:
        """CAPACITY; no rows where nothing was searched for, or not yet found."""
        file = self.path / "capacity.parquet"
        return pl.read_parquet(file, glob=False) if file.is_file() else pl.DataFrame(schema=CAPACITY)


def in_order(rows: pl.DataFrame, info: dict[str, Any]) -> pl.DataFrame:
    """Rows by their axes: policies as they were listed, numbers ascending."""
    listed = [_place(name, info.get(name + "s") or []) for name in ("placement", "scheduler")]
    numbers = [name for name in (*AXES[2:], "seed") if name in rows.columns]
    return rows.sort(*listed, *numbers)


def _place(name: str, known: list[str]) -> pl.Expr:
    return pl.col(name).replace_strict(known, range(len(known)), default=len(known), return_dtype=pl.Int32)


def over_seeds(table: pl.DataFrame) -> pl.DataFrame:
    """The mean of every result over the seeds that have one, a row for each combination of AXES.

    Also `seeds`, `failed`, the first `error`, and the ends of each attainment's 95 % interval (`…_low`, `…_high`):
    Student's over seeds, or, of one seed, Wilson's over its requests, as if they did not wait for each other.
    """
    done = pl.col("error").is_null()
    rows = table.group_by(AXES, maintain_order=True).agg(
        done.sum().cast(pl.Int32).alias("seeds"),
        (~done).sum().cast(pl.Int32).alias("failed"),
        pl.col("error").drop_nulls().first(),
        pl.col(RESULTS).mean(),
        pl.col(ATTAINMENTS).std().name.suffix("_deviation"),
    )
    return rows.with_columns(*[end for name in ATTAINMENTS for end in _ends(rows, name)]).drop(
        f"{name}_deviation" for name in ATTAINMENTS
    )


def _ends(rows: pl.DataFrame, name: str) -> list[pl.Series]:
    value, deviation, with_slo = (
        rows[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in (name, f"{name}_deviation", "with_slo")
    )
    seeds = rows["seeds"].to_numpy()
    several, one = mean_interval(value, deviation, seeds), share_interval(value, with_slo)
    ends = [np.clip(np.where(seeds > 1, s, o), 0, 1) for s, o in zip(several, one, strict=True)]
    return [pl.Series(f"{name}_{end}", e, nan_to_null=True) for end, e in zip(("low", "high"), ends, strict=True)]
