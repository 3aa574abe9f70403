"""A workload as a folder of parts, a window of time each; who makes their files may be elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import polars as pl

from toolkit.errors import InputFailure
from toolkit.results import whole_file
from workloads.generate import About, Generated, Progress, Windows, empty
from workloads.generate_spec import Workload
from workloads.trace_writer import TraceWriter


@dataclass(frozen=True)
class PartFile:
    """A part's Parquet file."""

    content: bytes
    rows: int
    first_s: float
    last_s: float


class Making(Protocol):
    """Makes the files of a workload's parts."""

    about: About

    def files(self, progress: Progress | None) -> Iterator[PartFile]:
        """In order of time; windows in which nothing arrives have none."""
        ...


class MakingHere:
    """One after the other, in this process."""

    def __init__(self, workload: Workload, seed: int):
        self._windows = Windows(workload, seed)
        self.about = self._windows.about

    def files(self, progress: Progress | None) -> Iterator[PartFile]:
        for rows in self._windows:
            if len(rows):
                yield packed(rows, self.about)
            if progress is not None:
                progress(self._windows.cuts.end_s, self._windows.cuts.requests)


def packed(rows: pl.DataFrame, about: About) -> PartFile:
    """The file of a part with these rows."""
    first_s, last_s = float(rows["arrival_s"][0]), float(rows["arrival_s"][-1])
    info = about.described(len(rows), first_s, last_s)
    with TemporaryDirectory(prefix="trace-generate-") as scratch:
        target = Path(scratch) / "part.parquet"
        with TraceWriter(target, lists=info.block_tokens is not None) as writer:
            writer.write(rows)
            writer.finish(info)
        return PartFile(target.read_bytes(), len(rows), first_s, last_s)


def generate_parts(
    workload: Workload,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
    *,
    making: Callable[[Workload, int], Making] = MakingHere,
) -> Generated:
    """Write `folder`/part-NNNNN.parquet; the same bytes whoever makes them."""
    _make_folder(folder)
    made = making(workload, seed)
    rows, size, first_s, last_s = 0, 0, None, 0.0
    for number, part in enumerate(made.files(progress)):
        with whole_file(folder / f"part-{number:05d}.parquet") as file:
            file.write(part.content)
        rows, size = rows + part.rows, size + len(part.content)
        first_s, last_s = part.first_s if first_s is None else first_s, part.last_s
    if first_s is None:
        raise empty(workload)
    about = made.about.until(last_s)
    return Generated(about.described(rows, first_s, last_s), about.truth, size)


def _make_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputFailure("is there already", where=str(folder), hint="choose another --out, or empty it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made ({error.strerror})"
        raise InputFailure(what, where=str(folder), hint="choose another --out") from error
