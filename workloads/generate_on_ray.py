"""A workload made on a Ray cluster: streams by actors, windows brought together and packed by tasks.

Requests stay on the cluster. The command is told how many there are, by which windows end and requests are numbered,
and takes the files. Where a host is lost, its streams begin anew and pass over what is there already.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import RunFailure
from toolkit.on_ray import TRIES, check_versions, connect, lost
from toolkit.runs import versions
from workloads.generate import About, Cuts, Generated, Progress, Size, Streams, together
from workloads.generate_parts import PartFile, generate_parts, packed
from workloads.generate_spec import Workload
from workloads.generators.numbering import Numbering, Numbers, numbered, turns_of

SHARE = 0.5  # of a core, to which making and packing take turns
AHEAD = 8  # windows that are made before the first of them is packed


class Maker:
    """Some of the streams, in an actor."""

    def __init__(self, workload: Workload, seed: int, numbers: Sequence[int]):
        self._of = workload, seed, numbers

    @cached_property
    def _streams(self) -> Streams:
        return Streams(*self._of)

    def planted(self, wanted: dict[str, str]) -> tuple[list[pl.DataFrame], list[tuple[str, ...]]]:
        check_versions(wanted)
        return self._streams.truth, self._streams.notes

    def pass_over(self, ends_s: Sequence[float]) -> None:
        for end_s in ends_s:
            self._streams.upto(end_s)

    def upto(self, end_s: float) -> list[Any]:
        """How much the streams made, then what each did."""
        parts = self._streams.upto(end_s)
        return [Size.of(parts), *parts]


def brought_together(step_s: float | None, rows: int, *parts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """A window, and its turns."""
    window = together(parts, step_s, rows)
    return window, turns_of(window)


def finished(window: pl.DataFrame, first: int, parents: Numbers | None, about: About) -> PartFile:
    """A window's file."""
    return packed(numbered(window, first, parents), about)


def finished_at_once(step_s: float | None, rows: int, first: int, about: About, *parts: pl.DataFrame) -> PartFile:
    """The file of a window without turns."""
    return finished(together(parts, step_s, rows), first, None, about)


@dataclass
class Window:
    """A window under way: what was asked of each maker, and then what is known of it."""

    end_s: float
    asked: list[list[Any]] = field(default_factory=list)
    rows: int | None = None
    first: int = 0  # number of its first request
    begun: list[Any] = field(default_factory=list)  # the window and its turns, brought together
    parents: Numbers | None = None
    file: Any = None


class Lost(Exception):
    """Something that was made is no longer there."""


class MakingOnRay:
    """All streams of a workload, shared out to as many actors as there are cores for."""

    def __init__(self, on: str, workload: Workload, seed: int):
        self._ray = connect(on)
        self._of = workload, seed
        self._step_s = workload.settings.clock_step_s
        self._turns = any(stream.sessions for stream, _ in workload.streams)
        streams = len(workload.streams)
        makers = min(max(1, int(self._ray.cluster_resources().get("CPU", 1))), streams)
        self._numbers = [list(range(k, streams, makers)) for k in range(makers)]
        self._maker = self._ray.remote(num_cpus=SHARE, max_restarts=0, scheduling_strategy="SPREAD")(Maker)
        task = partial(self._ray.remote, num_cpus=SHARE, max_retries=TRIES, scheduling_strategy="SPREAD")
        self._together, self._finished, self._at_once = (
            task(num_returns=n)(work) for n, work in ((2, brought_together), (1, finished), (1, finished_at_once))
        )
        self._actors = [self._new_actor(k) for k in range(makers)]
        self._under_way: deque[Window] = deque()
        self._ends_s: list[float] = []  # of the windows that are packed
        self._cuts, self._numbering = Cuts(workload.settings), Numbering()
        planted = self._surely(lambda: [self._get(actor.planted.remote(versions())) for actor in self._actors])
        truth, notes = (self._by_stream([of[i] for of in planted]) for i in (0, 1))
        self.about = About.of(workload, seed, truth, notes)
        self._about = self._ray.put(self.about)

    def files(self, progress: Progress | None) -> Iterator[PartFile]:
        while self._under_way or not self._cuts.all:
            if self._cuts.all or len(self._under_way) > AHEAD:
                file = self._surely(self._take)
                if file is not None:
                    yield file
                continue
            self._begin()
            if progress is not None:
                progress(self._cuts.end_s, self._cuts.requests)

    def _begin(self) -> None:
        """Ask for another window, and meanwhile number the one before."""
        window = Window(self._cuts.next())
        self._under_way.append(window)
        self._ask(window, range(len(self._actors)))
        if len(self._under_way) > 1:
            self._surely(partial(self._pack, self._under_way[-2]))
        sizes = self._surely(lambda: [self._get(asked[0]) for asked in window.asked])
        size = Size(sum(s.rows for s in sizes), sum(s.size_bytes for s in sizes))
        window.first, window.rows = self._cuts.requests, self._cuts.made(size)
        self._bring_together(window)

    def _ask(self, window: Window, makers: Sequence[int]) -> None:
        window.asked = window.asked or [[] for _ in self._actors]
        for k in makers:
            results = 1 + len(self._numbers[k])
            window.asked[k] = self._actors[k].upto.options(num_returns=results).remote(window.end_s)

    def _bring_together(self, window: Window) -> None:
        parts = self._by_stream([asked[1:] for asked in window.asked])
        if not window.rows:
            return
        if self._turns:
            window.begun = self._together.remote(self._step_s, window.rows, *parts)
        else:
            window.file = self._at_once.remote(self._step_s, window.rows, window.first, self._about, *parts)

    def _pack(self, window: Window) -> None:
        """Number the window's turns, and have it packed; once."""
        if not window.begun or window.file is not None:
            return
        if window.parents is None:
            window.parents = self._numbering.parents(self._get(window.begun[1]), window.rows or 0)
        window.file = self._finished.remote(window.begun[0], window.first, window.parents, self._about)

    def _take(self) -> PartFile | None:
        """The first window's file; null where nothing arrived in it."""
        window = self._under_way[0]
        self._pack(window)
        file: PartFile | None = self._get(window.file) if window.file is not None else None
        self._under_way.popleft()
        self._ends_s.append(window.end_s)
        return file

    def _get(self, reference: Any) -> Any:
        """What the reference stands for; raises Lost where it is gone."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception) and not isinstance(error.cause, self._ray.exceptions.RayError):
                raise error.cause from None
            raise Lost(lost(error)) from error
        except self._ray.exceptions.RayError as error:
            raise Lost(lost(error)) from error

    def _surely(self, step: Callable[[], Any]) -> Any:
        """What the step gives, whoever is lost meanwhile."""
        for _ in range(TRIES):
            try:
                return step()
            except Lost as error:
                why = error
                self._make_again()
        raise RunFailure(f"streams cannot be made ({why})", where="--on", hint="try again, or with --on local")

    def _make_again(self) -> None:
        """Begin lost makers anew, all of them where none is known to be, and ask them again for what is under way."""
        gone = [k for k, actor in enumerate(self._actors) if not self._is_there(actor)] or range(len(self._actors))
        for k in gone:
            self._ray.kill(self._actors[k])
            self._actors[k] = self._new_actor(k)
            self._actors[k].pass_over.remote(self._ends_s)
        for window in self._under_way:
            self._ask(window, gone)
            window.begun, window.file = [], None
            if window.rows is not None:
                self._bring_together(window)

    def _is_there(self, actor: Any) -> bool:
        try:
            self._ray.get(actor.pass_over.remote([]))
        except self._ray.exceptions.RayError:
            return False
        return True

    def _new_actor(self, k: int) -> Any:
        return self._maker.remote(*self._of, self._numbers[k])

    def _by_stream(self, made: Sequence[Sequence[Any]]) -> list[Any]:
        """By stream instead of by maker."""
        pairs = [pair for of, some in zip(self._numbers, made, strict=True) for pair in zip(of, some, strict=True)]
        return [one for _, one in sorted(pairs, key=lambda pair: pair[0])]

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)


def generate_on_ray(
    on: str, workload: Workload, folder: Path, seed: int, progress: Progress | None = None
) -> Generated:
    """Write the parts that `generate_parts` writes, made on a cluster."""
    begun: list[MakingOnRay] = []

    def making(workload: Workload, seed: int) -> MakingOnRay:
        begun.append(MakingOnRay(on, workload, seed))
        return begun[0]

    try:
        return generate_parts(workload, folder, seed, progress, making=making)
    finally:
        for one in begun:
            one.close()
