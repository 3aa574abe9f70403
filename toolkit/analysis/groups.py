"""Which models burst together: Prism's measures of the active set, and groups with their evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from toolkit.analysis import groups_tables as tables
from toolkit.analysis.groups_activity import Floats, Scale, finest_window_s, scales
from toolkit.analysis.groups_choice import absent, borne_out, found_groups, half_groups, without_strangers
from toolkit.analysis.groups_communities import Group, stability
from toolkit.analysis.groups_evidence import Evidence, weigh
from toolkit.analysis.groups_joining import joining
from toolkit.analysis.groups_membership import Bursts, Epoch, bursts_of, daily_clock, epochs, memberships
from toolkit.analysis.groups_null import draws, part_edges, parts_of
from toolkit.analysis.groups_prism import ACTIVE, PRESENCE, PRISM, Present, prism
from toolkit.analysis.groups_seen import Counts, Seen, named
from toolkit.analysis.groups_tables import About
from toolkit.analysis.idle import ACTIVE_S
from toolkit.analysis.lanes import Lanes
from toolkit.analysis.looks import in_one_piece
from toolkit.analysis.whole import Whole
from toolkit.traces import TraceInfo

MANY_NAMES = 150  # above it, fewer draws
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


@dataclass(frozen=True)
class Activity:
    """A part of the trace: requests of those that are tested, by window, and what everybody does."""

    counts: Counts
    present: Present


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
        return in_one_piece(self, frame, Whole.of(frame, info))

    def partial(self, frame: pl.DataFrame, whole: Whole) -> Seen:
        """Who is in a part, how often."""
        return Seen.of(frame, self.by)

    def told(self, parts: Sequence[Seen], whole: Whole) -> Seen:
        """Who is in any part."""
        return Seen.merged(parts)

    def again(self, frame: pl.DataFrame) -> pl.DataFrame:
        """When those that are named arrived."""
        return named(frame, self.by)

    def second(self, rows: pl.DataFrame, whole: Whole) -> Activity | None:
        """What everybody does in a part; null where nobody does anything, or all is at once."""
        told, timed = About.of(whole.seen, self.by), rows
        if not timed.height or not told.span_s:
            return None
        lanes = Lanes.of(timed[self.by], timed["arrival_s"].to_numpy() - told.offset_s)
        finest_s = finest_window_s(told.span_s, whole.info.clock_step_s)
        present = Present.of(lanes, self.active_s, told.span_s)
        return Activity(Counts.of(lanes, told.names, finest_s, told.span_s), present)

    def finish(self, parts: Sequence[tuple[Seen, Activity | None]], whole: Whole) -> dict[str, pl.DataFrame]:
        """The tables, from all parts in order of time."""
        seen, known = whole.seen, [activity for _, activity in parts if activity]
        if not known:
            nothing = tables.without(About.nobody(self.by), seen.why_nothing(self.by))
            return (nothing if seen.rows else tables.empty()) | {
                "prism": PRISM.to_frame(),
                "presence": PRESENCE.to_frame(),
                "active": ACTIVE.to_frame(),
            }
        told, finest_s = About.of(seen, self.by), finest_window_s(seen.span_s, whole.info.clock_step_s)
        groups = self._groups(told, Counts.merged([part.counts for part in known]), finest_s)
        return groups | prism(Present.merged([part.present for part in known]))

    def _groups(self, told: About, counts: Floats, finest_s: float) -> dict[str, pl.DataFrame]:
        if len(told.names) < 2:
            return tables.without(told, "fewer than two names with enough requests")
        seen = scales(counts, finest_s)
        if not seen:
            return tables.without(told, "too short for a null that keeps the shared load")
        found = find(seen, self.seed)
        if found.shared:
            again = find(scales(counts, finest_s, shared=True), self.seed)
            found = again if not again.shared else none_but_load(again)
        return tables.answer(told, found)


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
    edges, part = part_edges(scale) * scale.in_block, parts_of(scale, bursts.first)
    for g, group in enumerate(groups):
        own = np.flatnonzero(bursts.group == g)
        load = np.diff(daily_clock(scale, group, bursts, own)[edges])
        path[own[np.isin(part[own], absent(evidence.best, group, names, load))]] = -1
    found = epochs(path, bursts, groups, scale)
    told = {epoch.group for epoch in found}
    rest = [Epoch(g, group, 0, windows - 1) for g, group in enumerate(groups) if g not in told]
    return bursts, sorted([*found, *rest], key=lambda epoch: (epoch.group, epoch.first))


def none_but_load(found: Found) -> Found:
    return Found(found.evidence, [], [], None, [], found.shared)
