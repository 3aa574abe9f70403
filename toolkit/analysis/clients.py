"""Who sends: the trace as a sum of clients, each with its rate, gaps and lengths in windows (after ServeGen).

A client is a tenant. Windows are ten minutes long, as in ServeGen, or a sixth of a shorter trace.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits
from toolkit.analysis.categories import Categories, Ints
from toolkit.counted import Counted
from toolkit.grouping import grouped_few
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
        sent = frame
        if frame["arrival_s"].null_count() or frame["tenant"].null_count():
            sent = frame.filter(pl.col("arrival_s").is_not_null() & pl.col("tenant").is_not_null())
        span_s = float(sent["arrival_s"][-1]) if sent.height else 0.0
        if not span_s:
            empty = {"clients": CLIENTS, "windows": WINDOWS, "peaks": BURSTS, "makers": MAKES}
            return {name: schema.to_frame() for name, schema in empty.items()}
        window_s = min(WINDOW_S, span_s / LEAST_WINDOWS)
        last = int(np.ceil(span_s / window_s - 1e-9)) - 1
        streams = Streams.of(sent, window_s, last)
        sampled = lengths_sample(sent, window_s, last)
        bursts, makers = burst_makers(streams.cells(), window_s, last + 1)
        return {
            "clients": whole(streams, sampled, span_s),
            "windows": windows(streams, sampled, window_s),
            "peaks": bursts,
            "makers": makers,
        }


@dataclass(frozen=True)
class Streams:
    """Requests client by client, busiest first; the i-th client's are from `starts[i]` to `starts[i + 1]`."""

    tenants: list[str]
    starts: Ints
    time_s: Floats
    window: NDArray[np.int32]

    @classmethod
    def of(cls, sent: pl.DataFrame, window_s: float, last: int) -> "Streams":
        """Time ascends within each client, and so does the window."""
        categories = Categories(sent["tenant"])
        found, sizes = categories.counted
        table = pl.DataFrame({"number": found, "tenant": categories.names(), "requests": sizes})
        table = table.sort("requests", "tenant", descending=[True, False])
        rank = np.zeros(categories.most + 1, dtype=np.uint32)
        rank[table["number"].to_numpy()] = np.arange(table.height)
        order = grouped_few(rank[categories.numbers]).order
        time_s = sent["arrival_s"].to_numpy()[order]
        window = np.minimum((time_s / window_s).astype(np.int32), last)
        starts = np.concatenate([[0], np.cumsum(table["requests"].to_numpy())])
        return cls(table["tenant"].to_list(), starts, time_s, window)

    def busiest(self) -> "Streams":
        """Those that windows are told of."""
        end = self.starts[: BUSIEST + 1][-1]
        return Streams(self.tenants[:BUSIEST], self.starts[: BUSIEST + 1], self.time_s[:end], self.window[:end])

    def window_starts(self) -> Ints:
        """Where another window of the same client, or another client, begins; and the end."""
        changes = np.flatnonzero(np.diff(self.window)) + 1
        return np.union1d(changes, self.starts)

    def cells(self) -> pl.DataFrame:
        """Requests by tenant and window."""
        starts = self.window_starts()
        client = np.searchsorted(self.starts, starts[:-1], side="right") - 1
        columns = {"tenant": pl.Series(self.tenants, dtype=_s).gather(client), "window": self.window[starts[:-1]]}
        return pl.DataFrame(columns | {"requests": np.diff(starts)}, schema_overrides={"requests": _i})


def whole(streams: Streams, sampled: pl.DataFrame, span_s: float) -> pl.DataFrame:
    """CLIENTS, busiest first; gaps and their family for the BUSIEST."""
    top = streams.busiest()
    requests = np.diff(streams.starts)
    table = pl.DataFrame({"tenant": streams.tenants, "requests": requests}, schema={"tenant": _s, "requests": _i})
    gaps = pl.DataFrame({"tenant": top.tenants}, schema={"tenant": _s}).with_columns(gaps_of(top, top.starts, BUSIEST))
    return (
        table.with_columns(share=pl.col("requests") / len(streams.time_s), rate_per_s=pl.col("requests") / span_s)
        .join(gaps, on="tenant", how="left", maintain_order="left")
        .join(lengths(sampled, ["tenant"]), on="tenant", how="left", maintain_order="left")
        .select(CLIENTS.names())
    )


def windows(streams: Streams, sampled: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """WINDOWS of the BUSIEST clients, those with requests."""
    top, keys = streams.busiest(), ["tenant", "window"]
    own = sampled.filter(pl.col("tenant").is_in(top.tenants))
    return (
        top.cells()
        .with_columns(gaps_of(top, top.window_starts(), MOST_FITS))
        .join(lengths(own, keys), on=keys, how="left", maintain_order="left")
        .with_columns(start_s=pl.col("window") * window_s, window_s=pl.lit(window_s))
        .with_columns(rate_per_s=pl.col("requests") / window_s)
        .select(WINDOWS.names())
    )


def lengths_sample(sent: pl.DataFrame, window_s: float, last: int) -> pl.DataFrame:
    """Tenant, window and lengths of every k-th request where there are more than MOST_LENGTHS."""
    sampled = sent.gather_every(max(1, sent.height // MOST_LENGTHS))
    window = np.minimum((sampled["arrival_s"].to_numpy() / window_s).astype(np.int32), last)
    return sampled.with_columns(pl.col("tenant").cast(pl.String), window=pl.Series(window))


def lengths(sampled: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Lengths of each group."""
    wanted = {
        f"{short}_{label}": value
        for short in ("prompt", "output")
        for label, value in (
            ("mean", pl.col(f"{short}_tokens").mean()),
            ("p50", pl.col(f"{short}_tokens").quantile(0.5, "linear")),
            ("p99", pl.col(f"{short}_tokens").quantile(0.99, "linear")),
        )
    }
    return sampled.group_by(keys).agg(**wanted)


def gaps_of(streams: Streams, starts: Ints, most: int) -> list[pl.Series]:
    """The CV of each stretch's gaps and, for the first `most` that are long enough, their likeliest family."""
    fitted = np.flatnonzero(np.diff(starts) > LEAST_GAPS)[:most].tolist()
    found = {i: _family(streams.time_s[starts[i] : starts[i + 1]]) for i in fitted}
    families = [found.get(i, (None, None)) for i in range(len(starts) - 1)]
    return [
        pl.Series("gap_cv", gap_cv(streams.time_s, starts), dtype=_f),
        pl.Series("family", [family for family, _ in families], dtype=_s),
        pl.Series("shape", [shape for _, shape in families], dtype=_f),
    ]


def gap_cv(time_s: Floats, starts: Ints) -> list[float | None]:
    """Coefficient of variation of each stretch's gaps; null below two gaps."""
    gap = np.diff(time_s, prepend=0.0)
    gap[starts[:-1]] = 0.0
    count = np.diff(starts) - 1
    mean = np.add.reduceat(gap, starts[:-1]) / np.maximum(count, 1)
    gap -= np.repeat(mean, count + 1)
    gap[starts[:-1]] = 0.0
    variance = np.add.reduceat(np.square(gap, out=gap), starts[:-1]) / np.maximum(count - 1, 1)
    known = (count > 1) & (mean > 0)
    return [float(np.sqrt(v) / m) if k else None for v, m, k in zip(variance, mean, known, strict=True)]


def _family(time_s: Floats) -> tuple[str | None, float | None]:
    own = np.diff(time_s[: MOST_GAPS + 1])
    found = fits.compare(Counted.of_sorted(np.sort(own)).above(0), FAMILIES)
    return (found["family"][0], found["shape"][0]) if found.height else (None, None)


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
