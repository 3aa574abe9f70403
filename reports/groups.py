"""Who suffers: the same numbers for each model, tenant, tier and input length, worst first."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reports.measured import GROUPS, Measured
from reports.overtime import bin_width
from reports.resampling import Floats, sorted_quantiles

TITLES = {"model": "Model", "tenant": "Tenant", "tier": "Tier", "input_length": "Input length"}
PANELS = 9
ROWS = 24
FEW = 10  # requests; a P99 of fewer is not shown in the heat map
TAIL = 1 - np.geomspace(1, 1e-4, 60)


@dataclass(frozen=True)
class Split:
    """`table`: one row a run and group (worst first over all runs), `harm` the metric that orders them."""

    name: str
    harm: str
    table: pl.DataFrame
    order: list[str | None]
    tails: list[dict[str | None, Floats]]  # a run: each group's sorted values of `harm`


def harm_metric(runs: list[Measured]) -> str:
    """Slowdown where every run knows it, because it is fair to long requests; else E2E."""
    known = all(run.frame["slowdown"].null_count() < run.frame.height for run in runs)
    return "slowdown" if known else "e2e_s"


@dataclass(frozen=True)
class Ordered:
    """A run's rows in ascending order of a metric, those where it is undefined left out, and the values so."""

    rows: NDArray[np.uint32]
    values: Floats


def splits(runs: list[Measured], met: list[pl.Series]) -> list[Split]:
    """A Split for each grouping that tells requests apart; `met` is each run's joint attainment, a request."""
    harm = harm_metric(runs)
    ordered = [_ordered(run, harm) for run in runs]
    names = [n for n in GROUPS if len({g for run in runs for g in run.frame[n].unique().cast(pl.String)}) > 1]
    return [_split(name, harm, runs, met, ordered) for name in names]


def _ordered(run: Measured, harm: str) -> Ordered:
    values = run.frame[harm]
    rows = values.arg_sort(nulls_last=True).head(len(values) - values.null_count()).to_numpy()
    return Ordered(rows, values.to_numpy()[rows])


def _split(name: str, harm: str, runs: list[Measured], met: list[pl.Series], ordered: list[Ordered]) -> Split:
    tails = [_tails(run.frame[name], each) for run, each in zip(runs, ordered, strict=True)]
    table = pl.concat(
        _group_table(name, run, m, tail).with_columns(run=pl.lit(run.label))
        for run, m, tail in zip(runs, met, tails, strict=True)
    )
    worst = table.group_by("group").agg(pl.col("p99").max())
    worst = worst.sort("p99", "group", descending=[True, False], nulls_last=True)
    return Split(name, harm, table, worst["group"].to_list(), tails)


def _tails(group: pl.Series, ordered: Ordered) -> dict[str | None, Floats]:
    """The defined values of each group, sorted: all values were sorted once, a stable partition keeps them so."""
    codes = group.to_physical().cast(pl.Int32).fill_null(-1).to_numpy()[ordered.rows]
    small = codes.astype(np.int16) if len(codes) and codes.max() < 2**15 else codes  # 16 bits sort by radix
    by_code = np.argsort(small, kind="stable")
    ends = np.flatnonzero(np.diff(small[by_code])) + 1
    firsts = ordered.rows[by_code[np.concatenate([[0], ends])]] if len(codes) else ordered.rows
    return dict(zip(group[firsts].cast(pl.String), np.split(ordered.values[by_code], ends), strict=False))


def _group_table(name: str, run: Measured, met: pl.Series, tails: dict[str | None, Floats]) -> pl.DataFrame:
    counted = (
        run.frame.lazy()
        .select("ttft_s", "status", met.alias("met"), group=pl.col(name))
        .group_by("group")
        .agg(
            requests=pl.len(),
            failed=(pl.col("status") != "ok").sum(),
            ttft_p99=pl.col("ttft_s").quantile(0.99, "linear"),
            attainment=pl.col("met").mean(),
        )
        .with_columns(pl.col("group").cast(pl.String))
        .collect()
    )
    rows = [(group, *sorted_quantiles(values, np.array([0.5, 0.99]))) for group, values in tails.items()]
    schema = {"group": pl.String, "p50": pl.Float64, "p99": pl.Float64}
    quantiles = pl.DataFrame(rows, schema=schema, orient="row")
    return counted.join(quantiles, on="group", how="left", nulls_equal=True)


def tail_of(ordered: Floats) -> tuple[Floats, Floats]:
    """The tail of sorted values: values and the share above each."""
    levels = TAIL[len(ordered) * (1 - TAIL) >= 1 - 1e-9]
    return sorted_quantiles(ordered, levels), 1 - levels


def heat(run: Measured, harm: str, models: list[str | None], start: float, span_s: float) -> pl.DataFrame:
    """P99 of `harm` by model and time: model, time_s, p99 (null below FEW requests), requests."""
    width = bin_width(span_s, 48)
    at = ((pl.col("arrival_s") - start) / width).floor()
    table = (
        run.frame.lazy()
        .select(harm, "arrival_s", model=pl.col("model").cast(pl.String))
        .filter(pl.col("model").is_in(models, nulls_equal=True))
        .group_by("model", time_s=start + (at + 0.5) * width)
        .agg(requests=pl.len(), p99=pl.col(harm).quantile(0.99, "linear"))
        .sort("model", "time_s")
    )
    return table.with_columns(p99=pl.when(pl.col("requests") >= FEW).then("p99")).collect()
