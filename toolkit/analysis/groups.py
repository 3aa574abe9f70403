"""Which models burst together: Prism's measures of the active set, and groups with their evidence."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit.analysis import groups_tables as tables
from toolkit.analysis.groups_activity import Scale, counted, finest_window_s, scales
from toolkit.analysis.groups_choice import absent, borne_out, found_groups, half_groups, without_strangers
from toolkit.analysis.groups_communities import Group, stability
from toolkit.analysis.groups_evidence import Evidence, weigh
from toolkit.analysis.groups_joining import joining
from toolkit.analysis.groups_membership import Bursts, Epoch, bursts_of, epochs, memberships
from toolkit.analysis.groups_null import draws, parts_of
from toolkit.analysis.groups_prism import ACTIVE, PRESENCE, PRISM, prism
from toolkit.analysis.idle import ACTIVE_S, Lanes
from toolkit.traces import TraceInfo

MOST_NAMES = 400  # pairs, and so draws held in memory, grow with the square: 0.8 GB; 800 names take 2.2 GB
MANY_NAMES = 150  # above it, fewer draws
FEWEST_REQUESTS = 8  # of a name; with fewer nothing is told about its bursts
EVERYBODY = 0.8  # a group of so many of all names is shared load
FEW = 8  # below so many names, all of them may be a group


@dataclass(frozen=True)
class Found:
    """The groups that stand, with what is known of each."""

    evidence: Evidence
    groups: list[Group]
    stabilities: list[float]
    bursts: Bursts | None
    epochs: list[Epoch]
    shared: int  # names that rise together as one, and count as load
    unstable: int = 0  # groups that one half of the trace does not bear out


class Groups:
    """Which models (or tenants) burst together, when, and how sure that is; and Prism's measures of the active set."""

    table: ClassVar[Literal["trace", "outcomes"]] = "trace"
    columns: ClassVar[tuple[str, ...]] = ("arrival_s", "model", "tenant")

    def __init__(self, by: str = "model", active_s: float = ACTIVE_S, seed: int = 1):
        if by not in ("model", "tenant"):
            raise ValueError(f"by is model or tenant, not '{by}'")
        self.by, self.active_s, self.seed = by, active_s, seed

    def run(self, frame: pl.DataFrame, info: TraceInfo) -> dict[str, pl.DataFrame]:
        """See docs/analyses.md for the tables."""
        timed = frame.filter(pl.col("arrival_s").is_not_null(), pl.col(self.by).is_not_null())
        arrival_s = timed["arrival_s"].to_numpy()
        if not timed.height or arrival_s[0] == arrival_s[-1]:
            nothing = tables.without(tables.About.nobody(self.by), self._why_nothing(frame, timed))
            return (nothing if frame.height else tables.empty()) | {
                "prism": PRISM.to_frame(),
                "presence": PRESENCE.to_frame(),
                "active": ACTIVE.to_frame(),
            }
        offset_s = float(arrival_s[0])
        lanes = Lanes.of(timed[self.by], arrival_s - offset_s)
        return self._groups(lanes, offset_s, info) | prism(lanes, self.active_s)

    def _why_nothing(self, frame: pl.DataFrame, timed: pl.DataFrame) -> str:
        if timed.height:
            return f"all requests that name a {self.by} arrive at once"
        if frame["arrival_s"].null_count() == frame.height:
            return "no request has an arrival time"
        if frame[self.by].null_count() == frame.height:
            return f"no request names its {self.by}"
        return f"no request has an arrival time and names its {self.by}"

    def _groups(self, lanes: Lanes, offset_s: float, info: TraceInfo) -> dict[str, pl.DataFrame]:
        sizes = lanes.groups.sizes
        chosen, rare = tested(lanes), int(np.count_nonzero(sizes < FEWEST_REQUESTS))
        names = [str(lanes.names[i]) for i in chosen]
        told = tables.About(self.by, len(sizes), rare, names, sizes[chosen], offset_s, lanes.span_s)
        finest_s = finest_window_s(lanes.span_s, info.clock_step_s)
        starts = lanes.groups.starts
        times = [lanes.time_s[starts[i] : starts[i + 1]] for i in chosen]
        if len(names) < 2:
            return tables.without(told, "fewer than two names with enough requests")
        counts = counted(times, finest_s, lanes.span_s)
        seen = scales(counts, finest_s)
        if not seen:
            return tables.without(told, "too short for a null that keeps the shared load")
        found = find(seen, self.seed)
        if found.shared:
            again = find(scales(counts, finest_s, shared=True), self.seed)
            found = again if not again.shared else none_but_load(again)
        return tables.answer(told, found)


def tested(lanes: Lanes) -> NDArray[np.int64]:
    """The lanes that are tested, busiest first, equal ones by name."""
    sizes = lanes.groups.sizes
    enough = np.flatnonzero(sizes >= FEWEST_REQUESTS)
    order = sorted(enough.tolist(), key=lambda i: (-sizes[i], str(lanes.names[i])))
    return np.array(order[:MOST_NAMES], dtype=np.int64)


def find(seen: list[Scale], seed: int) -> Found:
    """Groups that both tests and both halves of the trace bear out, and their membership over time."""
    names = len(seen[0].active)
    count = 199 if names <= MANY_NAMES else 99
    evidence = weigh((draws(scale, count, seed + i) for i, scale in enumerate(seen)), names)
    claimed, scale = found_groups(evidence, names), evidence.best.scale
    if claimed:
        claimed = without_strangers(claimed, joining(scale, claimed, count, seed))
    halves = half_groups(evidence, names)
    groups = [g for g in claimed if borne_out(evidence.best, g, halves, names)]
    unstable = len(claimed) - len(groups)
    if not groups:
        return Found(evidence, [], [], None, [], 0, unstable)
    everybody = max(len(g) for g in groups)
    shared = everybody if names >= FEW and everybody > EVERYBODY * names else 0
    stabilities = [stability(g, halves) for g in groups]
    return Found(evidence, groups, stabilities, *over_time(evidence, groups, count, seed), shared, unstable)


def over_time(evidence: Evidence, groups: list[Group], count: int, seed: int) -> tuple[Bursts, list[Epoch]]:
    """The groups' bursts and who belongs when; a group whose bursts are too few to tell is there throughout."""
    scale = evidence.best.scale
    names, windows = scale.active.shape
    bursts = bursts_of(scale, groups)
    path = memberships(scale, groups, bursts, joining(scale, groups, count, seed))
    for g, group in enumerate(groups):
        path[(bursts.group == g) & np.isin(parts_of(scale, bursts.first), absent(evidence.best, group, names))] = -1
    found = epochs(path, bursts, groups, windows)
    told = {epoch.group for epoch in found}
    rest = [Epoch(g, group, 0, windows - 1) for g, group in enumerate(groups) if g not in told]
    return bursts, sorted([*found, *rest], key=lambda epoch: (epoch.group, epoch.first))


def none_but_load(found: Found) -> Found:
    return Found(found.evidence, [], [], None, [], found.shared)
