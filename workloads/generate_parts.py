"""A workload as a folder of parts, a window of time each; who makes the streams and the files may be elsewhere."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import polars as pl

from toolkit.errors import InputFailure
from toolkit.results import whole_file
from toolkit.traces import TraceInfo
from workloads.generate import Generated, Progress, Sources, Windows, described, empty
from workloads.generate_spec import Workload
from workloads.trace_writer import TraceWriter

AHEAD = 8  # parts that are being written at once


@dataclass(frozen=True)
class Part:
    """A part's rows and what its footer says."""

    rows: pl.DataFrame
    info: TraceInfo


class Packing(Protocol):
    """Makes files of parts; `begin` gives what `end` waits for."""

    def begin(self, part: Part) -> Any: ...

    def end(self, begun: Any) -> bytes: ...


class PackingHere:
    """At once, in this process."""

    def begin(self, part: Part) -> bytes:
        return packed(part)

    def end(self, begun: Any) -> bytes:
        content: bytes = begun
        return content


def packed(part: Part) -> bytes:
    """The bytes of a part's Parquet file."""
    with TemporaryDirectory(prefix="trace-generate-") as scratch:
        target = Path(scratch) / "part.parquet"
        with TraceWriter(target, lists=part.info.block_tokens is not None) as writer:
            writer.write(part.rows)
            writer.finish(part.info)
        return target.read_bytes()


def generate_parts(
    workload: Workload,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
    *,
    sources: Callable[[], Sources] | None = None,
    packing: Packing | None = None,
) -> Generated:
    """Write `folder`/part-NNNNN.parquet; the same bytes whoever makes them."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputFailure("is there already", where=str(folder), hint="choose another --out, or empty it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made ({error.strerror})"
        raise InputFailure(what, where=str(folder), hint="choose another --out") from error
    windows, packing = Windows(workload, seed, sources() if sources else None), packing or PackingHere()
    begun: deque[Any] = deque()
    written, size, first_s, last_s = 0, 0, None, 0.0

    def keep() -> None:
        nonlocal written, size
        content = packing.end(begun.popleft())
        with whole_file(folder / f"part-{written:05d}.parquet") as file:
            file.write(content)
        written, size = written + 1, size + len(content)

    for rows in windows:
        if len(rows):
            starts_s, last_s = float(rows["arrival_s"][0]), float(rows["arrival_s"][-1])
            first_s = starts_s if first_s is None else first_s
            begun.append(packing.begin(Part(rows, described(windows, len(rows), starts_s, last_s))))
        while len(begun) > AHEAD:
            keep()
        if progress is not None:
            progress(windows.end_s, windows.numbering.next)
    while begun:
        keep()
    if first_s is None:
        raise empty(workload)
    return Generated(described(windows, windows.numbering.next, first_s, last_s), windows.truth, size)
