"""Time-partitioned Parquet files as one trace whose parts are read where the work is.

Each file is counted by itself; what they say together is what one pass over all of them would have said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from toolkit import plugins
from toolkit.errors import InputFailure
from toolkit.executors import Executor, result_of
from toolkit.parts import Parted
from toolkit.protocols import LoadOptions, Scan
from toolkit.traces import Trace, TraceInfo, scan_canonical
from workloads.clock import STAMPS_JUDGED
from workloads.counting import Count, count
from workloads.detection import detect
from workloads.inputs import Source, find_files, sha256
from workloads.loaders.canonical import table
from workloads.loaders.columns import PARQUET
from workloads.normalising import Named, prepared, told
from workloads.objects import LATEST, Object
from workloads.reading import BY_COLUMNS, as_shown, name_of

SLICES_ROWS = 1_000_000  # rows of a part, where a file is cut into several, or small ones are read together
LOCALLY = "read it with --on local"
CONVERT = f"convert it first (trace convert), or {LOCALLY}"


@dataclass(frozen=True)
class File:
    """One Parquet file and how it is read."""

    file: Path | Object
    format: str
    options: LoadOptions = field(hash=False)

    def scan(self) -> Scan:
        path = in_passing(self.file)
        try:
            found: Scan = plugins.load("loader", self.format)().scan([path], self.options)
            if found.restored is not None:  # most of what it says of itself holds for it alone
                found = table([path], self.options)
        except InputFailure as failure:
            raise as_shown(failure, [Source(path, str(self.file))]) from failure
        return found


@dataclass(frozen=True)
class Digest:
    """All files' bytes, one after the other."""

    files: tuple[Path | Object, ...]


@dataclass
class Counted:
    """A file's count without its stamps, its columns, and the hashes of its rows at the first and the last arrival."""

    count: Count
    columns: pl.Schema
    head: pl.Series
    tail: pl.Series


@dataclass(frozen=True)
class Slice:
    """Rows of a canonical file, whose footer says all that is known."""

    file: Path | Object
    start: int
    rows: int
    info: TraceInfo

    def read(self) -> Trace:
        whole = scan_canonical(in_passing(self.file), self.info)
        assert whole.numbered is not None
        rows = (whole.frame.slice(self.start, self.rows), whole.numbered.slice(self.start, self.rows))
        return replace(whole, frame=rows[0], numbered=rows[1])


@dataclass(frozen=True)
class FilesPart:
    """Files that follow each other, the requests before them, and what was counted in all files of the trace."""

    files: tuple[File, ...]
    before: int
    whole: Count = field(hash=False)
    name: str
    time_unit: str | None

    def read(self) -> Trace:
        read = [self._read(file) for file in self.files]
        number = pl.int_range(self.before, self.before + pl.len(), dtype=pl.Int64).alias("request_id")
        frame = pl.concat([trace.frame for trace in read]).with_columns(number)
        measured = [trace.outcomes for trace in read if trace.outcomes is not None]
        return Trace(frame, read[0].info, pl.concat(measured) if measured else None)

    def _read(self, file: File) -> Trace:
        scan = file.scan()
        return told(scan, prepared(scan), self.whole, Named(self.name, file.format, lambda: ""), self.time_unit)


def read_parts(
    paths: list[str], executor: Executor, *, format: str | None, columns: dict[str, str], time_unit: str | None
) -> Parted:
    """Count the files by `executor`; InputFailure where they are not Parquet in order of time."""
    files = find_files(paths)
    for file in files:
        _check_parquet(file)
    found = format or (BY_COLUMNS if columns else _detected(files))
    options = LoadOptions(columns, time_unit)
    if len(files) == 1:
        return _sliced(files[0], found, options)
    parts = [File(file, found, options) for file in files]
    answers = _all(executor, [Digest(tuple(files)), *parts])
    whole = merged([(file, answers[file]) for file in parts])
    parts = [file for file in parts if answers[file].count.kept] or parts[:1]
    whole.stamps = _stamps(executor, parts, [answers[file].count.kept for file in parts])
    whole.whole = all(bool((s == np.rint(s)).all()) for s in whole.stamps)
    named = Named(name_of(paths, files), found, lambda: str(answers[Digest(tuple(files))]))
    scan = parts[0].scan()
    info = told(scan, prepared(scan), whole, named, time_unit).info
    light, before, read = replace(whole, stamps=[]), 0, []
    for some in together(parts, [answers[file].count.kept for file in parts]):
        read.append(FilesPart(some, before, light, named.name, time_unit))
        before += sum(answers[file].count.kept for file in some)
    return Parted(info, whole.kept, 0.0, float(info.span_s or 0.0), read)


def together(files: Sequence[File], rows: Sequence[int]) -> list[tuple[File, ...]]:
    """Small files that follow each other, up to SLICES_ROWS rows; of a store no more than copies are kept of."""
    found, held = [[files[0]]], rows[0]
    for file, n in zip(files[1:], rows[1:], strict=True):
        if held + n > SLICES_ROWS or (isinstance(file.file, Object) and len(found[-1]) == LATEST):
            found.append([])
            held = 0
        found[-1].append(file)
        held += n
    return [tuple(some) for some in found]


def in_passing(file: Path | Object) -> Path:
    """The file, or a copy of the object here, for as long as it takes to read it."""
    return file.in_passing() if isinstance(file, Object) else file


def _detected(files: Sequence[Path | Object]) -> str:
    """The format of all files; of objects by the first, so that the others are copied where they are read."""
    judged = files[:1] if isinstance(files[0], Object) else files
    return detect([Source(in_passing(file), str(file)) for file in judged])


def _sliced(file: Path | Object, format: str, options: LoadOptions) -> Parted:
    """One canonical file by rows."""
    scan: Scan = plugins.load("loader", format)().scan([in_passing(file)], options)
    if scan.restored is None:
        hint = f"give a folder of several, convert it first (trace convert), or {LOCALLY}"
        raise InputFailure("is one file that is not canonical, and so not in parts", where=str(file), hint=hint)
    arrival = pl.col("arrival_s")
    ends = scan.frame.select(arrival.count().alias("n"), arrival.min().alias("first"), arrival.max().alias("last"))
    timed, first_s, last_s = ends.collect(engine="streaming").row(0)
    info = scan.restored.info
    rows = info.rows_kept
    parts = [Slice(file, at, min(SLICES_ROWS, rows - at), info) for at in range(0, rows, SLICES_ROWS)]
    return Parted(info, timed, first_s or 0.0, last_s or 0.0, parts)


def _check_parquet(file: Path | Object) -> None:
    with file.open("rb") as content:
        if content.read(len(PARQUET)) != PARQUET:
            raise InputFailure("is not Parquet", where=str(file), hint=CONVERT)


def _all(executor: Executor, items: Sequence[Any]) -> dict[Any, Any]:
    found = {}
    for item, result in executor.map(_done, items):
        found[item] = result_of(result)
    return found


def _done(item: "Digest | File | Stamps") -> Any:
    if isinstance(item, Digest):
        return sha256(item.files)
    return item.read() if isinstance(item, Stamps) else counted(item)


def counted(file: File) -> Counted:
    """Count one file."""
    scan = file.scan()
    frame = prepared(scan)
    found = count(frame)
    for reason, rows in scan.dropped.items():
        found.rows += rows
        found.dropped[reason] = found.dropped.get(reason, 0) + rows
    found.stamps = []
    if found.first is None and found.kept:
        raise InputFailure("has no arrival times to share it out by", where=str(file.file), hint=LOCALLY)
    if not found.sorted:
        hint = f"sort it (trace convert does), or {LOCALLY}"
        raise InputFailure("is not in order of arrival", where=str(file.file), hint=hint)
    if not found.kept:
        nothing = pl.Series("row_hash", [], pl.UInt64)
        return Counted(found, scan.frame.collect_schema(), nothing, nothing)
    ends = frame.filter(pl.col("drop_reason").is_null(), pl.col("arrival").is_in([found.first, found.last]))
    at_ends = ends.select("arrival", "row_hash").collect()
    head, tail = (at_ends.filter(pl.col("arrival") == at)["row_hash"].unique() for at in (found.first, found.last))
    return Counted(found, scan.frame.collect_schema(), head, tail)


def merged(files: Sequence[tuple[File, Counted]]) -> Count:
    """What one pass over all files would have counted, but for the stamps."""
    whole = Count()
    latest: tuple[Any, pl.Series] | None = None
    for file, part in files:
        found = part.count
        if (other := set(part.columns.items()) ^ set(files[0][1].columns.items())) != set():
            what = (
                f"has not the columns of {files[0][0].file} ({', '.join(sorted({name for name, _ in other}))} differ)"
            )
            raise InputFailure(what, where=str(file.file), hint="read them one by one, or convert them alike first")
        whole.rows += found.rows
        for reason, rows in found.dropped.items():
            whole.dropped[reason] = whole.dropped.get(reason, 0) + rows
        if found.first is None:  # it is empty, or all of it is dropped
            continue
        if latest is not None and found.first < latest[0]:
            hint = f"give files that follow each other in time, named in that order, or {LOCALLY}"
            raise InputFailure("begins before the file before it ends", where=str(file.file), hint=hint)
        seen = latest[1] if latest is not None and found.first == latest[0] else part.head.clear()
        whole.first = found.first if whole.first is None else whole.first
        whole.last = found.last
        again = int(part.head.is_in(seen.implode()).sum())
        whole.duplicates = (whole.duplicates or 0) + (found.duplicates or 0) + again
        tail = pl.concat([seen, part.tail]).unique() if found.first == found.last else part.tail
        latest = (found.last, tail)
    return whole


@dataclass(frozen=True)
class Stamps:
    """The first arrivals of a file, by which the clock is judged."""

    file: File
    most: int

    def read(self) -> Any:
        kept = prepared(self.file.scan()).filter(pl.col("drop_reason").is_null())
        return kept.select("arrival").head(self.most).collect()["arrival"].to_numpy()


def _stamps(executor: Executor, files: Sequence[File], rows: Sequence[int]) -> list[Any]:
    """Of as many files as the clock is judged by."""
    wanted, room = [], STAMPS_JUDGED
    for file, n in zip(files, rows, strict=True):
        if room > 0:
            wanted.append(Stamps(file, room))
            room -= n
    found = _all(executor, wanted)
    return [found[item] for item in wanted]
