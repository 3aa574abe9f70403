"""Who sends: the trace as a sum of clients, each with its rate, gaps and lengths in windows (after ServeGen).

A client is a tenant. Windows are ten minutes long, as in ServeGen, or a sixth of a shorter trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import fits
from toolkit.analysis.client_gaps import Gaps
from toolkit.analysis.client_plan import CELLS, Key, Plan, Spans
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.whole import Whole
from toolkit.counted import Counted
from toolkit.traces import TraceInfo

Floats = NDArray[np.float64]
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


@dataclass(frozen=True)
class Sent:
    """A part: gaps of the busiest clients, overall and by window, and lengths of some requests."""

    of_clients: dict[Key, Gaps]
    of_windows: dict[Key, Gaps]
    sampled: pl.DataFrame


class Clients:
    """Who sends: each client's rate, gaps and lengths in ten-minute windows, and which clients make the bursts."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "tenant", "prompt_tokens", "output_tokens")

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        return in_one_piece(self, frame, Whole.of(frame, info))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> pl.DataFrame:
        """A part's requests by tenant and window."""
        cells = Spans.of(whole).windowed(frame).group_by("tenant", "window").len("requests")
        return cells.select(pl.col("tenant").cast(_s), "window", pl.col("requests").cast(_i))

    def told(self, parts: Sequence[pl.DataFrame], whole: Whole) -> list[pl.DataFrame]:
        """Requests by tenant and window, part by part."""
        return list(parts)

    def again(self, frame: pl.DataFrame) -> pl.DataFrame:
        """All of a part."""
        return frame

    def second(self, rows: pl.DataFrame, whole: Whole) -> Sent | None:
        """What the busiest clients do in a part, and lengths of every k-th request; null where nobody is named."""
        sent, spans = Spans.of(whole).windowed(rows), Spans.of(whole)
        if not sent.height or not spans.last_s:
            return None
        plan = Plan.of(whole.seen)
        before = pl.concat(whole.seen[: whole.part]) if whole.part else CELLS.to_frame()
        of_clients, of_windows = gaps_in(sent, plan, before)
        every, earlier = max(1, plan.requests // MOST_LENGTHS), int(before["requests"].sum())
        sampled = sent.gather_every(every, -earlier % every).drop("arrival_s")
        return Sent(of_clients, of_windows, sampled.with_columns(pl.col("tenant").cast(_s)))

    def finish(self, parts: Sequence[tuple[pl.DataFrame, Sent | None]], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time."""
        known, spans = [sent for _, sent in parts if sent], Spans.of(whole)
        if not known:
            empty = {"clients": CLIENTS, "windows": WINDOWS, "peaks": BURSTS, "makers": MAKES}
            return {name: schema.to_frame() for name, schema in empty.items()}
        plan, sampled = Plan.of(whole.seen), pl.concat([part.sampled for part in known])
        bursts, makers = burst_makers(plan.cells, spans.window_s, spans.last + 1)
        return {
            "clients": clients(plan, joined([part.of_clients for part in known]), sampled, spans),
            "windows": windows(plan, joined([part.of_windows for part in known]), sampled, spans),
            "peaks": bursts,
            "makers": makers,
        }


def gaps_in(sent: pl.DataFrame, plan: Plan, before: pl.DataFrame) -> tuple[dict[Key, Gaps], dict[Key, Gaps]]:
    """Gaps of the busiest clients in a part, overall and by window; `before` are the requests of the parts before."""
    there = {(tenant, window): n for tenant, window, n in before.iter_rows()}
    in_all = dict(before.group_by("tenant").agg(pl.col("requests").sum()).iter_rows())
    own = sent.select(pl.col("tenant").cast(_s), "arrival_s", "window").filter(pl.col("tenant").is_in(plan.busiest))
    of_clients, of_windows = dict[Key, Gaps](), dict[Key, Gaps]()
    for (name,), rows in own.group_by("tenant"):
        tenant, time_s, window = str(name), rows["arrival_s"].to_numpy(), rows["window"].to_numpy()
        of_clients[tenant, None] = Gaps.of(time_s, plan.heading((tenant, None), in_all.get(tenant, 0)))
        starts = np.append(np.flatnonzero(np.diff(window, prepend=-1)), len(window))
        for a, b in pairwise(starts.tolist()):
            key = (tenant, int(window[a]))
            of_windows[key] = Gaps.of(time_s[a:b], plan.heading(key, there.get(key, 0)))
    return of_clients, of_windows


def joined(parts: Sequence[dict[Key, Gaps]]) -> dict[Key, Gaps]:
    """Every stretch's gaps, over all parts."""
    found: dict[Key, Gaps] = {}
    for part in parts:
        for key, gaps in part.items():
            found[key] = found[key].joined(gaps) if key in found else gaps
    return found


def clients(plan: Plan, gaps: dict[Key, Gaps], sampled: pl.DataFrame, spans: Spans) -> pl.DataFrame:
    """CLIENTS, busiest first; gaps and their family for the BUSIEST."""
    keys = [(tenant, None) for tenant in plan.busiest]
    told = pl.DataFrame({"tenant": plan.busiest}, schema={"tenant": _s}).with_columns(described(keys, gaps, plan))
    requests = pl.col("requests")
    return (
        plan.table.with_columns(share=requests / plan.requests, rate_per_s=requests / spans.last_s)
        .join(told, on="tenant", how="left", maintain_order="left")
        .join(lengths(sampled, ["tenant"]), on="tenant", how="left", maintain_order="left")
        .select(CLIENTS.names())
    )


def windows(plan: Plan, gaps: dict[Key, Gaps], sampled: pl.DataFrame, spans: Spans) -> pl.DataFrame:
    """WINDOWS of the BUSIEST clients, those with requests."""
    place = {tenant: k for k, tenant in enumerate(plan.busiest)}
    keys = sorted(gaps, key=lambda key: (place[key[0]], key[1]))
    rows = [(tenant, window, gaps[tenant, window].requests) for tenant, window in keys]
    own, by = sampled.filter(pl.col("tenant").is_in(plan.busiest)), ["tenant", "window"]
    return (
        pl.DataFrame(rows, schema={"tenant": _s, "window": pl.Int32(), "requests": _i}, orient="row")
        .with_columns(described(keys, gaps, plan))
        .join(lengths(own, by), on=by, how="left", maintain_order="left")
        .with_columns(start_s=pl.col("window") * spans.window_s, window_s=pl.lit(spans.window_s))
        .with_columns(rate_per_s=pl.col("requests") / spans.window_s)
        .select(WINDOWS.names())
    )


def described(keys: Sequence[Key], gaps: dict[Key, Gaps], plan: Plan) -> list[pl.Series]:
    """The CV of each stretch's gaps and, where they are fitted, their likeliest family."""
    families = [_family(gaps[key].head) if key in plan.fitted else (None, None) for key in keys]
    return [
        pl.Series("gap_cv", [gaps[key].cv for key in keys], dtype=_f),
        pl.Series("family", [family for family, _ in families], dtype=_s),
        pl.Series("shape", [shape for _, shape in families], dtype=_f),
    ]


def _family(time_s: Floats) -> tuple[str | None, float | None]:
    found = fits.compare(Counted.of_sorted(np.sort(np.diff(time_s))).above(0), FAMILIES)
    return (found["family"][0], found["shape"][0]) if found.height else (None, None)


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
