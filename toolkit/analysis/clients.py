"""Who sends: the trace as a sum of clients, each with its rate, gaps and lengths in windows (after ServeGen).

A client is a tenant. Windows are ten minutes long, as in ServeGen, or a sixth of a shorter trace.
"""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits
from toolkit.counted import Counted
from toolkit.grouping import Groups, grouped
from toolkit.traces import TraceInfo

Floats = NDArray[np.float64]
WINDOW_S = 600.0
LEAST_WINDOWS = 6
BUSIEST = 50  # clients with windows
LEAST_GAPS, MOST_GAPS = 50, 2000  # a fit needs so many, and takes the first so many
MOST_FITS = 200  # windows with a family of their own, those of the busiest clients first
MOST_LENGTHS = 1_000_000  # requests whose lengths are looked at
BURST = 1.5  # times the mean rate makes a window a burst
MOST_BURSTS, MAKERS = 20, 5
FAMILIES = ("exponential", "gamma", "weibull")

_f, _i, _s = pl.Float64(), pl.Int64(), pl.String()
LENGTHS: dict[str, pl.DataType] = dict.fromkeys(
    ("prompt_mean", "prompt_p50", "prompt_p99", "output_mean", "output_p50", "output_p99"), _f
)
CLIENTS = pl.Schema(
    {"tenant": _s, "requests": _i, "share": _f, "rate_per_s": _f, "gap_cv": _f, "family": _s, "shape": _f} | LENGTHS
)
WINDOWS = pl.Schema(
    {"tenant": _s, "start_s": _f, "window_s": _f, "requests": _i, "rate_per_s": _f, "gap_cv": _f, "family": _s}
    | LENGTHS
)
BURSTS = pl.Schema({"start_s": _f, "window_s": _f, "requests": _i, "times_mean": _f, "clients_for_half": _i})
MAKES = pl.Schema({"start_s": _f, "tenant": _s, "requests": _i, "usual": _f, "excess_share": _f})


class Clients:
    """Who sends: each client's rate, gaps and lengths in ten-minute windows, and which clients make the bursts."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "tenant", "prompt_tokens", "output_tokens")

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        sent = frame.filter(pl.col("arrival_s").is_not_null() & pl.col("tenant").is_not_null())
        span_s = float(sent["arrival_s"][-1]) if sent.height else 0.0
        if not span_s:
            empty = {"clients": CLIENTS, "windows": WINDOWS, "peaks": BURSTS, "makers": MAKES}
            return {name: schema.to_frame() for name, schema in empty.items()}
        window_s = min(WINDOW_S, span_s / LEAST_WINDOWS)
        last = int(np.ceil(span_s / window_s - 1e-9)) - 1
        window = (pl.col("arrival_s") / window_s).cast(pl.Int32).clip(upper_bound=last)
        placed = sent.rechunk().with_columns(window.alias("window"))
        cells = counted(placed)
        clients = whole(placed, cells, span_s)
        bursts, makers = burst_makers(cells, window_s, last + 1)
        return {
            "clients": clients,
            "windows": windows(placed, clients["tenant"].head(BUSIEST), window_s),
            "peaks": bursts,
            "makers": makers,
        }


def counted(placed: pl.DataFrame) -> pl.DataFrame:
    """Requests by tenant (as text) and window."""
    cells = placed.group_by("tenant", "window").agg(requests=pl.len().cast(pl.Int64))
    return cells.with_columns(pl.col("tenant").cast(pl.String))


def whole(placed: pl.DataFrame, cells: pl.DataFrame, span_s: float) -> pl.DataFrame:
    """CLIENTS, busiest first; gaps and their family for the BUSIEST."""
    totals = cells.group_by("tenant").agg(pl.col("requests").sum())
    busiest = totals.sort("requests", "tenant", descending=[True, False])
    top = busiest["tenant"].head(BUSIEST)
    return (
        busiest.with_columns(share=pl.col("requests") / placed.height, rate_per_s=pl.col("requests") / span_s)
        .join(gaps(placed, top, ["tenant"], BUSIEST), on="tenant", how="left")
        .join(lengths(placed, ["tenant"]), on="tenant", how="left", maintain_order="left")
        .select(CLIENTS.names())
    )


def windows(placed: pl.DataFrame, top: pl.Series, window_s: float) -> pl.DataFrame:
    """WINDOWS of the clients of `top`, those with requests."""
    keys = ["tenant", "window"]
    return (
        gaps(placed, top, keys, MOST_FITS)
        .join(lengths(placed, keys), on=keys, how="left", maintain_order="left")
        .with_columns(start_s=pl.col("window") * window_s, window_s=pl.lit(window_s))
        .with_columns(rate_per_s=pl.col("requests") / window_s)
        .select(WINDOWS.names())
    )


def lengths(frame: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Lengths of each group, of every k-th request where there are more than MOST_LENGTHS."""
    sampled = frame.gather_every(max(1, frame.height // MOST_LENGTHS))
    wanted = {
        f"{short}_{label}": value
        for short in ("prompt", "output")
        for label, value in (
            ("mean", pl.col(f"{short}_tokens").mean()),
            ("p50", pl.col(f"{short}_tokens").quantile(0.5, "linear")),
            ("p99", pl.col(f"{short}_tokens").quantile(0.99, "linear")),
        )
    }
    return sampled.group_by(keys).agg(**wanted).with_columns(pl.col("tenant").cast(pl.String))


def gaps(frame: pl.DataFrame, top: pl.Series, keys: list[str], most: int) -> pl.DataFrame:
    """Requests, CV of the gaps and, for at most `most` groups, their likeliest family; groups in the order of `top`."""
    rank = ranked(frame["tenant"], top)
    mine = np.flatnonzero(rank >= 0)
    place = rank[mine].astype(np.uint64) << np.uint64(32)
    if "window" in keys:
        place |= frame["window"].to_numpy()[mine].astype(np.uint64)
    groups = grouped(place)
    first = place[groups.order[groups.starts[:-1]]]
    which, window = (first >> np.uint64(32)).astype(np.int64), first.astype(np.uint32).astype(np.int32)
    table = pl.DataFrame({"rank": which, "window": window, "tenant": top.gather(which)}).select("rank", *keys)
    table = table.with_row_index("group")
    time_s = frame["arrival_s"].to_numpy()[mine[groups.order]]
    table = table.with_columns(requests=pl.Series(groups.sizes, dtype=_i), gap_cv=pl.Series(gap_cv(time_s, groups)))
    table = table.sort("rank", *keys[1:])
    fitted = [_family(time_s, groups, i) for i in table.filter(pl.col("requests") > LEAST_GAPS)["group"].head(most)]
    families = pl.DataFrame(fitted, schema={"group": pl.UInt32(), "family": _s, "shape": _f}, orient="row")
    return table.join(families, on="group", how="left", maintain_order="left").drop("group", "rank")


def ranked(tenants: pl.Series, top: pl.Series) -> NDArray[np.int32]:
    """Each request's place in `top`, −1 for those of others."""
    names = tenants.unique().cast(pl.Categorical)
    numbers = names.to_physical().to_numpy()
    places = {name: place for place, name in enumerate(top)}
    table = np.full(int(numbers.max()) + 1, -1, dtype=np.int32)
    table[numbers] = [places.get(name, -1) for name in names.cast(pl.String)]
    return np.asarray(table[tenants.cast(pl.Categorical).to_physical().to_numpy()])


def gap_cv(time_s: Floats, groups: Groups) -> list[float | None]:
    """Coefficient of variation of each group's gaps; null below two gaps."""
    gap = np.where(groups.first, 0.0, np.diff(time_s, prepend=0.0))
    count = groups.sizes - 1
    total = np.add.reduceat(gap, groups.starts[:-1])
    mean = total / np.maximum(count, 1)
    from_mean = np.where(groups.first, 0.0, gap - np.repeat(mean, groups.sizes))
    variance = np.add.reduceat(from_mean**2, groups.starts[:-1]) / np.maximum(count - 1, 1)
    known = (count > 1) & (mean > 0)
    return [float(np.sqrt(v) / m) if k else None for v, m, k in zip(variance, mean, known, strict=True)]


def _family(time_s: Floats, groups: Groups, i: int) -> tuple[int, str | None, float | None]:
    own = np.diff(time_s[groups.starts[i] : groups.starts[i + 1]][: MOST_GAPS + 1])
    found = fits.compare(Counted.of_sorted(np.sort(own)).above(0), FAMILIES)
    return (i, found["family"][0], found["shape"][0]) if found.height else (i, None, None)


def burst_makers(cells: pl.DataFrame, window_s: float, count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """BURSTS, the windows far above the mean rate, and MAKES: the clients that sent most above their own mean."""
    mean = int(cells["requests"].sum()) / count
    by_window = cells.group_by("window").agg(pl.col("requests").sum())
    high = (
        by_window.filter(pl.col("requests") > BURST * mean)
        .sort("requests", "window", descending=[True, False])
        .head(MOST_BURSTS)
    )
    usual = cells.group_by("tenant").agg(usual=pl.col("requests").sum() / count)
    excess = (
        cells.filter(pl.col("window").is_in(high["window"].implode()))
        .join(usual, on="tenant")
        .with_columns(_over=pl.col("requests") - pl.col("usual"))
        .filter(pl.col("_over") > 0)
        .sort("window", "_over", "tenant", descending=[False, True, False])
        .with_columns(excess_share=pl.col("_over") / pl.col("_over").sum().over("window"))
        .with_columns(start_s=pl.col("window") * window_s)
    )
    reached = pl.col("excess_share").cum_sum() - pl.col("excess_share") < 0.5
    half = excess.group_by("window", maintain_order=True).agg(clients_for_half=reached.sum().cast(pl.Int64))
    bursts = (
        high.join(half, on="window", how="left")
        .sort("window")
        .with_columns(start_s=pl.col("window") * window_s, window_s=pl.lit(window_s))
        .with_columns(times_mean=pl.col("requests") / mean)
    )
    makers = excess.group_by("window", maintain_order=True).head(MAKERS)
    return bursts.select(BURSTS.names()), makers.select(MAKES.names())
