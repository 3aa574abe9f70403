"""Bursty model groups: models that become active together, over a background that they do not share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import polars as pl

from toolkit.errors import SettingFailure, nearest
from toolkit.protocols import Planted, RateFactor
from workloads.generators.edges import Edge
from workloads.generators.names import Names, named
from workloads.generators.renewal import Gaps, Intensity, Steps, renewal
from workloads.generators.single import positive
from workloads.generators.truths import Row, fact, facts, table

MIN_SHARE, MAX_SHARE = 0.5, 1.5  # an episode lasts evenly distributed shares of for_s
MOST_EPISODES = 1_000_000  # of all groups: each is kept, and written into the truth


@dataclass(frozen=True)
class Shift:
    """From `at_s` on the group has these members; with none it is dissolved."""

    at_s: float
    members: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Models that are busy together in episodes: every `every_s` on average (start to start), for `for_s` on average.

    Each member takes part in an episode with chance `participation`; its start and end are off by `jitter_s` (standard
    deviation of a normal). `size` members are drawn from the models that are in no group where none are named.
    """

    rate_per_s: float  # what a member sends while busy, on top of its background
    every_s: float
    for_s: float
    members: tuple[str, ...] = ()
    size: int = 0
    name: str | None = None
    participation: float = 1.0
    jitter_s: float = 0.0
    from_s: float = 0.0  # when it forms
    to_s: float | None = None  # and dissolves; null: never
    shifts: tuple[Shift, ...] = ()

    def __post_init__(self) -> None:
        positive(rate_per_s=self.rate_per_s, for_s=self.for_s)
        if self.every_s <= MAX_SHARE * self.for_s:
            raise ValueError(f"every_s must be above {MAX_SHARE} × for_s, the longest episode")
        if bool(self.members) == bool(self.size) or self.size < 0:
            raise ValueError("give either members or size")
        if not 0 < self.participation <= 1 or self.jitter_s < 0:
            raise ValueError("participation must be above 0 and at most 1, jitter_s 0 or more")
        moments = [self.from_s, *sorted(s.at_s for s in self.shifts), np.inf if self.to_s is None else self.to_s]
        if any(end <= start for start, end in pairwise(moments)):
            raise ValueError("from_s, the at_s of shifts and to_s must follow each other")
        for members in (self.members, *(s.members for s in self.shifts)):
            if len(set(members)) < len(members):
                raise ValueError(f"a member is named twice in [{', '.join(members)}]")

    def memberships(self, span_s: float) -> list[tuple[float, float, tuple[str, ...]]]:
        """Who belongs to it, as (from, to, members)."""
        last = span_s if self.to_s is None else min(self.to_s, span_s)
        moments = [
            (self.from_s, self.members),
            *((s.at_s, s.members) for s in sorted(self.shifts, key=lambda s: s.at_s)),
        ]
        ends = [at for at, _ in moments[1:]] + [last]
        return [(max(at, 0.0), min(end, last), who) for (at, who), end in zip(moments, ends, strict=True) if at < last]


@dataclass(frozen=True)
class Busy:
    """One member's part in one episode."""

    group: str
    model: str
    start_s: float
    end_s: float
    rate_per_s: float


@dataclass(frozen=True)
class Groups:
    """Models whose bursts come together: groups over a background; `background_per_s` is shared out by popularity."""

    gives: ClassVar[frozenset[str]] = frozenset({"model"})

    models: Names
    background_per_s: float
    groups: tuple[Group, ...] = ()
    cv: float = 1.0  # of every model's gaps, in operational time

    def __post_init__(self) -> None:
        positive(background_per_s=self.background_per_s)
        Gaps("gamma", self.cv)
        known = self._models.all
        for member in self._taken - set(known):
            raise ValueError(f"no model '{member}'; {nearest(member, known)}")
        wanted, free = sum(group.size for group in self.groups), len(known) - len(self._taken)
        if wanted > free:
            raise ValueError(f"the groups' sizes add up to {wanted}, and {free} models are in no group")

    @property
    def _models(self) -> Names:
        return named(self.models, "model")

    @property
    def _taken(self) -> set[str]:
        """Every model that is named as a member."""
        return {m for g in self.groups for who in (g.members, *(s.members for s in g.shifts)) for m in who}

    def plant(self, span_s: float, factor: RateFactor, rng: np.random.Generator) -> Planted:
        wanted = sum(span_s / group.every_s for group in self.groups)
        if wanted > MOST_EPISODES:
            raise SettingFailure(f"groups would have {wanted:,.0f} episodes in {span_s:g} s", hint="raise every_s")
        of_members, of_episodes, of_gaps = rng.spawn(3)
        groups = self._filled(of_members)
        rows: list[Row] = []
        busy: list[Busy] = []
        for group, own in zip(groups, of_episodes.spawn(len(groups)), strict=True):
            found, episodes = _episodes(group, span_s, own)
            busy += found
            rows += [*_membership(group, span_s), *episodes]
        rows += [_part(part) for part in busy]
        background = self.background_per_s * self._models.probabilities
        own_rates = zip(self._models.all, background, strict=True)
        rows += [fact("background", model=m, parameter="rate_per_s", value=float(rate)) for m, rate in own_rates]
        return Planted(
            self._requests(background, factor, busy, of_gaps), table(rows), names={"model": self._models.all}
        )

    def _filled(self, rng: np.random.Generator) -> list[Group]:
        """The groups with names, and with members where only a size was given."""
        free = [m for m in self._models.all if m not in self._taken]
        found = []
        for number, group in enumerate(self.groups):
            members = group.members
            if group.size:
                members = tuple(sorted(str(m) for m in rng.choice(free, group.size, replace=False)))
                free = [m for m in free if m not in members]
            found.append(replace(group, members=members, size=0, name=group.name or f"group-{number}"))
        return found

    def _requests(
        self, background: np.ndarray, factor: RateFactor, busy: list[Busy], rng: np.random.Generator
    ) -> Callable[[Iterable[float]], Iterator[pl.DataFrame]]:
        names = self._models.all
        gaps = Gaps("exponential") if self.cv == 1 else Gaps("gamma", self.cv)
        extra = {model: _level([part for part in busy if part.model == model]) for model in names}

        def requests(edges: Iterable[float]) -> Iterator[pl.DataFrame]:
            shared = Edge()
            sources = [
                renewal(shared.upto(), _intensity(rate, factor, extra[model]), gaps, own)
                for model, rate, own in zip(names, background, rng.spawn(len(names)), strict=True)
            ]
            for end_s in edges:
                shared.end_s = end_s
                yield _merged([next(source) for source in sources], names)

        return requests


def _intensity(rate_per_s: float, factor: RateFactor, extra: Steps) -> Intensity:
    return Intensity(lambda time_s: (rate_per_s + extra.at(time_s)) * factor.at(time_s), (factor, extra))


def _merged(arrivals: list[np.ndarray], names: list[str]) -> pl.DataFrame:
    """All models' arrivals in order."""
    arrival_s = np.concatenate(arrivals)
    order = np.argsort(arrival_s, kind="stable")
    model = np.repeat(np.arange(len(names)), [len(a) for a in arrivals])[order]
    return pl.DataFrame({"arrival_s": arrival_s[order], "model": pl.Series(names).gather(model)})


def _episodes(group: Group, span_s: float, rng: np.random.Generator) -> tuple[list[Busy], list[Row]]:
    """Every member's part in every episode, and the episodes; a part ends where the membership does."""
    busy, rows = [], []
    for low, high, members in group.memberships(span_s):
        if not members:
            continue
        for start_s, end_s in _times(group, low, high, rng):
            rows.append(fact("episode", name=group.name, start_s=start_s, end_s=min(end_s, high)))
            there = rng.random(len(members)) < group.participation
            off = rng.normal(0, group.jitter_s, (2, len(members)))
            for member, first, last in zip(
                np.array(members)[there], start_s + off[0][there], end_s + off[1][there], strict=True
            ):
                first_s, last_s = max(float(first), low), min(float(last), high)
                if first_s < last_s:
                    busy.append(Busy(str(group.name), str(member), first_s, last_s, group.rate_per_s))
    return busy, rows


def _times(group: Group, low: float, high: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Episodes between two moments; between the end of one and the next start is an exponential wait."""
    wait_s, found = group.every_s - group.for_s, []
    start_s = low + wait_s * rng.standard_exponential()
    while start_s < high:
        end_s = start_s + group.for_s * rng.uniform(MIN_SHARE, MAX_SHARE)
        found.append((start_s, end_s))
        start_s = end_s + wait_s * rng.standard_exponential()
    return found


def _level(parts: list[Busy]) -> Steps:
    """What one model sends on top of its background."""
    if not parts:
        return Steps(np.array([-np.inf]), np.zeros(1))
    moments = np.array([t for part in parts for t in (part.start_s, part.end_s)])
    change = np.array([d for part in parts for d in (part.rate_per_s, -part.rate_per_s)])
    order = np.argsort(moments, kind="stable")
    level = np.cumsum(change[order])
    return Steps(np.append(-np.inf, moments[order]), np.append(0.0, np.where(level < 1e-9, 0.0, level)))


def _membership(group: Group, span_s: float) -> list[Row]:
    """What is known of a group; what it would do after the end is told too, for the stream to leave out and say so."""
    settings = {"rate_per_s": group.rate_per_s, "participation": group.participation, "jitter_s": group.jitter_s}
    if group.from_s >= span_s:
        return [fact("group", name=group.name, start_s=group.from_s)]
    return [
        *(fact("shift", name=group.name, start_s=shift.at_s) for shift in group.shifts if shift.at_s >= span_s),
        *facts("group", settings, name=group.name),
        *(
            fact("member", name=group.name, model=member, start_s=low, end_s=high)
            for low, high, members in group.memberships(span_s)
            for member in members
        ),
    ]


def _part(part: Busy) -> Row:
    return fact(
        "busy", name=part.group, model=part.model, start_s=part.start_s, end_s=part.end_s, parameter="rate_per_s",
        value=part.rate_per_s,
    )  # fmt: skip
