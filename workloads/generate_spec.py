"""A workload's specification: YAML to streams and their generators, every mistake at its line."""

from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from toolkit import plugins
from toolkit.errors import SettingFailure, nearest
from toolkit.protocols import Generator
from toolkit.specs import Node, arguments, load, made
from workloads.generators.stream import Stream


@dataclass(frozen=True)
class Settings:
    """What holds for the whole workload."""

    span_s: float
    name: str | None = None
    requests: int | None = None  # stop after so many
    clock_step_s: float | None = None  # arrivals are cut down to its multiples
    epoch: str | None = None  # ISO 8601 of time 0

    def __post_init__(self) -> None:
        if not 0 < self.span_s < 1e10:
            raise ValueError("span_s must be above 0 and below 1e10, in seconds")
        if (self.requests is not None and self.requests < 1) or (self.clock_step_s or 1) <= 0:
            raise ValueError("requests and clock_step_s must be above 0")
        if self.epoch is not None and not _is_moment(self.epoch):
            raise ValueError(f"epoch '{self.epoch}' is not an ISO 8601 time, as 2026-01-31T12:00:00 is")


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Workload:
    """What to generate. `sha256` is of the specification's text."""

    settings: Settings
    streams: tuple[tuple[Stream, Generator], ...]
    name: str
    sha256: str

    @property
    def block_tokens(self) -> int | None:
        sizes = [stream.prefixes.block_tokens for stream, _ in self.streams if stream.prefixes]
        return sizes[0] if sizes else None


def read_spec(path: Path, span_s: float | None = None) -> Workload:
    """Read and check the specification at `path`; `span_s` replaces the one it gives."""
    found = workload(load(path), path.stem, sha256(path.read_bytes()).hexdigest())
    return found if span_s is None else respanned(found, span_s)


def respanned(given: Workload, span_s: float) -> Workload:
    """The same workload for another span; its sha256 tells them apart."""
    try:
        settings = replace(given.settings, span_s=span_s)
    except ValueError as error:
        raise SettingFailure(str(error), where="--span") from error
    return replace(given, settings=settings, sha256=sha256(f"{given.sha256} {span_s}".encode()).hexdigest())


def workload(node: Node, name: str, digest: str) -> Workload:
    """The workload that `node` describes."""
    settings = made(node, Settings, besides=["streams"])
    listed = node.get("streams")
    if listed is None or not isinstance(listed.value, list) or not listed.value:
        raise (listed or node).failure("'streams' must be a list of one stream or more")
    streams = tuple(_stream(item, number) for number, item in enumerate(listed.value))
    _check_together(streams, listed.value)
    return Workload(settings, streams, settings.name or name, digest)


def _stream(node: Node, number: int) -> tuple[Stream, Generator]:
    """One item of `streams`: the keys of its generator stand beside those of every stream, and come before them."""
    cls = _generator(node)
    own = arguments(cls)
    generator: Generator = made(node, cls, besides=arguments(Stream))
    others = {key: value for key, value in node.value.items() if key not in own}
    stream = made(Node(others, node.file, node.line), Stream)
    _check_given(stream, cls, node)
    return replace(stream, name=stream.name or f"stream-{number}"), generator


def _check_given(stream: Stream, generator: Any, node: Node) -> None:
    """Where the generator says what it gives besides arrivals, nothing may be asked of what no request has."""
    if hasattr(generator, "gives"):
        try:
            stream.check_given(generator.gives)
        except ValueError as error:
            raise node.failure(str(error)) from error


def _generator(node: Node) -> Any:
    chosen = node.get("generator")
    name = "poisson" if chosen is None else chosen.value
    known = plugins.plugins("generator")
    if not isinstance(name, str) or name not in known:
        assert chosen is not None
        raise chosen.failure(f"no generator is called '{chosen.plain()}'", nearest(str(name), known))
    return known[name].load()


def _check_together(streams: tuple[tuple[Stream, Generator], ...], nodes: list[Node]) -> None:
    """Names are the streams' own, and block ids mean the same amount of text everywhere."""
    names: set[str | None] = set()
    sizes = {stream.prefixes.block_tokens for stream, _ in streams if stream.prefixes}
    for (stream, _), node in zip(streams, nodes, strict=True):
        if stream.name in names:
            raise node.failure(f"two streams are called '{stream.name}'", "give each a name of its own")
        names.add(stream.name)
        if stream.prefixes and len(sizes) > 1:
            raise node.failure(f"block_tokens must be the same in every stream, not {sorted(sizes)}")
