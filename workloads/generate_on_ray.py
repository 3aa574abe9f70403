"""A workload's streams made on a Ray cluster, some in each of its actors, and its parts packed there."""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.errors import RunFailure
from toolkit.on_ray import TRIES, check_versions, connect, lost
from toolkit.runs import versions
from workloads.generate import Generated, Progress, Streams
from workloads.generate_parts import Part, generate_parts, packed
from workloads.generate_spec import Workload

SHARE = 0.5  # of a core, to which making and packing take turns


class Maker:
    """Some of the streams, in an actor; one that begins anew first makes again what was made before."""

    def __init__(self, workload: Workload, seed: int, numbers: Sequence[int], wanted: dict[str, str]):
        check_versions(wanted)
        self._streams = Streams(workload, seed, numbers)

    def planted(self) -> tuple[list[pl.DataFrame], list[tuple[str, ...]]]:
        return self._streams.truth, self._streams.notes

    def upto(self, before: Sequence[float], end_s: float) -> list[pl.DataFrame]:
        for edge in before:
            self._streams.upto(edge)
        return self._streams.upto(end_s)


class StreamsOnRay:
    """All streams of a workload, shared out to as many actors as there are cores for."""

    def __init__(self, on: str, workload: Workload, seed: int):
        self._ray = connect(on)
        self._of = (workload, seed)
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        makers = min(cores, len(workload.streams))
        self._numbers = [list(range(k, len(workload.streams), makers)) for k in range(makers)]
        self._remote = self._ray.remote(num_cpus=SHARE, max_restarts=0)(Maker)
        self._actors = [self._begun(k) for k in range(makers)]
        self._edges: list[float] = []
        planted = self._each(lambda actor, before: actor.planted.remote())
        self.truth: Sequence[pl.DataFrame] = self._in_order([truth for truth, _ in planted])
        self.notes: Sequence[tuple[str, ...]] = self._in_order([notes for _, notes in planted])

    def upto(self, end_s: float) -> list[pl.DataFrame]:
        made = self._each(lambda actor, before: actor.upto.remote(before, end_s))
        self._edges.append(end_s)
        return self._in_order(made)

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def _begun(self, k: int) -> Any:
        return self._remote.remote(*self._of, self._numbers[k], versions())

    def _each(self, ask: Any) -> list[Any]:
        """Every actor's answer; one that was lost begins anew, and makes its streams again up to where it was."""
        asked = [ask(actor, []) for actor in self._actors]
        return [self._answer(k, reference, ask) for k, reference in enumerate(asked)]

    def _answer(self, k: int, reference: Any, ask: Any) -> Any:
        for _ in range(TRIES):
            try:
                return self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                why = lost(error)
                self._actors[k] = self._begun(k)
                reference = ask(self._actors[k], list(self._edges))
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
        raise RunFailure(f"streams cannot be made ({why})", where="--on", hint="try again, or with --on local")

    def _in_order(self, made: Sequence[Sequence[Any]]) -> list[Any]:
        """By stream instead of by maker."""
        pairs = (zip(numbers, some, strict=True) for numbers, some in zip(self._numbers, made, strict=True))
        return [one for _, one in sorted((pair for some in pairs for pair in some), key=itemgetter(0))]


class PackingOnRay:
    """Parts' files made by tasks, beside the streams; one whose host is lost is made again."""

    def __init__(self, on: str):
        self._ray = connect(on)
        self._packed = self._ray.remote(num_cpus=SHARE, max_retries=TRIES)(packed)

    def begin(self, part: Part) -> Any:
        return self._packed.remote(self._ray.put(part))

    def end(self, begun: Any) -> bytes:
        try:
            content: bytes = self._ray.get(begun)
        except self._ray.exceptions.RayError as error:
            raise RunFailure(f"a part cannot be written ({lost(error)})", where="--on", hint="try again") from error
        return content


def generate_on_ray(
    on: str, workload: Workload, folder: Path, seed: int, progress: Progress | None = None
) -> Generated:
    """Write the parts that `generate_parts` writes, made on a cluster."""
    made: list[StreamsOnRay] = []

    def sources() -> StreamsOnRay:
        made.append(StreamsOnRay(on, workload, seed))
        return made[0]

    try:
        return generate_parts(workload, folder, seed, progress, sources=sources, packing=PackingOnRay(on))
    finally:
        for streams in made:
            streams.close()
