"""Which clients are looked at, in which windows of time, and whose gaps are fitted: by their numbers of requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from toolkit.analysis.known import known
from toolkit.analysis.whole import Whole

WINDOW_S = 600.0
LEAST_WINDOWS = 6
BUSIEST = 50  # clients with windows
LEAST_GAPS, MOST_GAPS = 50, 2000  # a fit needs so many, and takes the first so many
MOST_FITS = 200  # windows with a family of their own, those of the busiest clients first
Key = tuple[str, int | None]  # a tenant, and a window or all of the time

CELLS = pl.Schema({"tenant": pl.String(), "window": pl.Int32(), "requests": pl.Int64()})


@dataclass(frozen=True)
class Spans:
    """The trace's last arrival and its windows, the last of which is number `last`."""

    last_s: float
    window_s: float
    last: int

    @classmethod
    def of(cls, whole: Whole) -> "Spans":
        window_s = min(WINDOW_S, whole.last_s / LEAST_WINDOWS) or WINDOW_S
        return cls(whole.last_s, window_s, int(np.ceil(whole.last_s / window_s - 1e-9)) - 1)

    def windowed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Requests with an arrival and a tenant, each with its window."""
        sent = known(frame, "arrival_s", "tenant")
        window = np.minimum((sent["arrival_s"].to_numpy() / self.window_s).astype(np.int32), self.last)
        return sent.with_columns(window=pl.Series(window, dtype=pl.Int32))


@dataclass(frozen=True)
class Plan:
    """Requests by tenant, busiest first, and by window; whose gaps are fitted."""

    cells: pl.DataFrame
    table: pl.DataFrame  # tenant, requests
    fitted: frozenset[Key]  # tenants, and windows of tenants

    @classmethod
    def of(cls, seen: Sequence[pl.DataFrame]) -> "Plan":
        cells = pl.concat(seen).group_by("tenant", "window").agg(pl.col("requests").sum())
        table = cells.group_by("tenant").agg(pl.col("requests").sum())
        table = table.sort("requests", "tenant", descending=[True, False])
        enough = pl.col("requests") > LEAST_GAPS
        busiest = table.head(BUSIEST).with_row_index("rank")
        own = cells.join(busiest.select("tenant", "rank"), on="tenant").sort("rank", "window").filter(enough)
        keys = [(tenant, None) for tenant in busiest.filter(enough)["tenant"]]
        return cls(cells, table, frozenset([*keys, *own.head(MOST_FITS).select("tenant", "window").iter_rows()]))

    def heading(self, key: Key, before: int) -> int:
        """How many of a stretch's requests in a part are kept for a fit, when so many were in the parts before."""
        return MOST_GAPS + 1 - before if key in self.fitted else 0

    @property
    def requests(self) -> int:
        return int(self.table["requests"].sum())

    @property
    def busiest(self) -> list[str]:
        """Those that windows are told of."""
        return self.table["tenant"].head(BUSIEST).to_list()
