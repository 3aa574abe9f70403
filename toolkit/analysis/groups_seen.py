"""Who is in a trace, and who of them is tested for groups; how often each of those comes in each window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis.groups_activity import Floats
from toolkit.analysis.known import known
from toolkit.analysis.lanes import Lanes
from toolkit.analysis.windows import window_of

MOST_NAMES = 400  # pairs, and so draws held in memory, grow with the square: 0.8 GB; 800 names take 2.2 GB
FEWEST_REQUESTS = 8  # of a name; with fewer nothing is told about its bursts


@dataclass(frozen=True)
class Seen:
    """Of a part: all rows, how many have a time and how many a name; those with both, by name, first and last."""

    rows: int
    timed: int
    named: int
    requests: dict[str, int]
    first_s: float
    last_s: float

    @classmethod
    def of(cls, frame: pl.DataFrame, by: str) -> "Seen":
        both = named(frame, by)
        counted = both[by].value_counts(name="requests").with_columns(pl.col(by).cast(pl.String))
        ends = (float(both["arrival_s"][0]), float(both["arrival_s"][-1])) if both.height else (np.inf, -np.inf)
        timed, have = (frame.height - frame[name].null_count() for name in ("arrival_s", by))
        return cls(frame.height, timed, have, dict(counted.iter_rows()), *ends)

    @staticmethod
    def merged(parts: "Sequence[Seen]") -> "Seen":
        """All parts together."""
        requests: dict[str, int] = {}
        for part in parts:
            for name, n in part.requests.items():
                requests[name] = requests.get(name, 0) + n
        rows, timed, have = (sum(getattr(part, name) for part in parts) for name in ("rows", "timed", "named"))
        return Seen(rows, timed, have, requests, min(p.first_s for p in parts), max(p.last_s for p in parts))

    @property
    def span_s(self) -> float:
        return max(0.0, self.last_s - self.first_s)

    @property
    def tested(self) -> list[str]:
        """Those with enough requests, busiest first, equal ones by name."""
        enough = [name for name, n in self.requests.items() if n >= FEWEST_REQUESTS]
        return sorted(enough, key=lambda name: (-self.requests[name], name))[:MOST_NAMES]

    def why_nothing(self, by: str) -> str:
        """Why there is nothing to test."""
        if self.requests:
            return f"all requests that name a {by} arrive at once"
        if not self.timed:
            return "no request has an arrival time"
        if not self.named:
            return f"no request names its {by}"
        return f"no request has an arrival time and names its {by}"


@dataclass(frozen=True)
class Counts:
    """Requests of each name in each window from the `first` on, of `windows`."""

    requests: NDArray[np.int64]  # names × windows that the part lies in
    first: int
    windows: int

    @classmethod
    def of(cls, lanes: Lanes, names: Sequence[str], window_s: float, span_s: float) -> "Counts":
        """Of a part, times from the whole trace's first."""
        windows = int(span_s / window_s) + 1
        at = np.minimum(window_of(lanes.time_s, window_s), windows - 1)
        first, last = int(at.min()), int(at.max())
        place = {name: k for k, name in enumerate(names)}
        row = np.array([place.get(str(name), len(names)) for name in lanes.names])
        width = last - first + 1
        cells = row[lanes.groups.index] * width + at - first
        counts = np.bincount(cells, minlength=(len(names) + 1) * width).reshape(-1, width)
        return cls(counts[: len(names)], first, windows)

    @staticmethod
    def merged(parts: "Sequence[Counts]") -> Floats:
        """Of all parts, names × windows."""
        whole = np.zeros((len(parts[0].requests), parts[0].windows), dtype=np.int64)
        for part in parts:
            whole[:, part.first : part.first + part.requests.shape[1]] += part.requests
        return whole.astype(np.float32)


def named(frame: pl.DataFrame, by: str) -> pl.DataFrame:
    """When those with a name arrived, and their names."""
    return known(frame.select("arrival_s", by))
