"""Files -> Trace: find them, unpack them, recognise their format, scan and normalise."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolkit import plugins
from toolkit.errors import Failure, InputFailure
from toolkit.protocols import LoadOptions, Scan
from toolkit.traces import Trace
from workloads.detection import detect
from workloads.inputs import Source, at_hand, find_files, sha256, unpack
from workloads.normalising import Named, normalise
from workloads.objects import Object, is_address, is_pattern

BY_COLUMNS = "columns"  # the format of whatever is read with --map


def read(paths: list[str], *, format: str | None, columns: dict[str, str], time_unit: str | None) -> Trace:
    """Read files, globs, folders or archives of one format into a Trace; the source is hashed while it is read."""
    files = find_files(paths)
    here = [at_hand(file) for file in files]
    sources = [source for file in here for source in unpack(file)]
    found = format or (BY_COLUMNS if columns else detect(sources))
    try:
        scan = _scan(sources, found, LoadOptions(columns, time_unit))
        if scan.restored is not None:
            return scan.restored
        with ThreadPoolExecutor(1) as beside:
            digest = beside.submit(sha256, [file.path for file in here])
            return normalise(scan, Named(name_of(paths, files), found, digest.result), time_unit)
    except InputFailure as failure:
        raise as_shown(failure, sources) from failure


def _scan(sources: list[Source], format: str, options: LoadOptions) -> Scan:
    scan: Scan = plugins.load("loader", format)().scan([s.path for s in sources], options)
    return scan


def name_of(paths: list[str], files: Sequence[Path | Object]) -> str:
    """The first file's name without suffixes, or the folder's where one was named."""
    first = Path(paths[0])
    if len(paths) == 1 and first.is_dir():
        return first.resolve().name
    if len(paths) == 1 and is_address(paths[0]) and not is_pattern(paths[0]) and first.name != files[0].name:
        return first.name
    return files[0].name.split(".")[0] or files[0].name


def as_shown(failure: InputFailure, sources: Sequence[Source]) -> Failure:
    """The failure with the files named as the user named them, not as they were unpacked."""
    for source in sources:
        if failure.where and str(source.path) != source.shown and str(source.path) in failure.where:
            where = failure.where.replace(str(source.path), source.shown)
            return InputFailure(failure.what, where=where, hint=failure.hint)
    return failure
