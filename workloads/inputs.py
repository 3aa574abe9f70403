"""What the user named -> plain files: globs, folders, objects of a store, compressed files and archives.

Whatever has to be unpacked goes to a scratch folder that is removed when the process ends.
"""

import glob
import gzip
import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from toolkit.errors import InputFailure, nearest
from workloads import objects
from workloads.objects import Object
from workloads.scratch import scratch_file

DATA_SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".pkl", ".pickle")
PACKED_SUFFIXES = (".gz", ".zst", ".tar", ".tgz")
GZIP, ZSTD, TAR = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"ustar"
TAR_MAGIC_AT = 257
ZSTD_WINDOW_BYTES = 2**31  # zstd --long goes up to this
File = TypeVar("File", bound=Path | Object)


@dataclass(frozen=True)
class Source:
    """A plain file to read, and how the user knows it."""

    path: Path
    shown: str


def find_files(texts: Iterable[str]) -> list[Path | Object]:
    """What is behind paths, addresses, globs and folders, in that order; within one by name, numbers counting."""
    return [file for text in texts for file in (_objects(text) if objects.is_address(text) else _expand(text))]


def at_hand(file: Path | Object) -> Source:
    """The file, or a copy of the object or of what a pipe gives but once, which lasts as long as the process."""
    if isinstance(file, Object):
        return Source(file.copied(), str(file))
    return Source(_drained(file) if file.is_fifo() else file, str(file))


def _drained(pipe: Path) -> Path:
    target = scratch_file(pipe.name)
    with pipe.open("rb") as given, target.open("wb") as file:
        shutil.copyfileobj(given, file, 2**20)
    return target


def unpack(source: Source) -> list[Source]:
    """The plain files in a file: itself, its decompressed content, or the data files of the archive it is."""
    return list(_plain(source))


def sha256(paths: Iterable[Path | Object]) -> str:
    """SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return [path]
    if glob.has_magic(text):
        return _matches(text)
    if path.is_symlink():
        raise InputFailure(f"is a link to '{path.readlink()}', which is not there", where=text)
    raise InputFailure("no such file", where=text, hint=_neighbour(path))


def _objects(address: str) -> list[Object]:
    key = objects.key_of(address)
    if objects.is_pattern(key):
        return _some(objects.matching(key), address)
    one = objects.file_at(key)
    return _data_files(objects.in_folder(key), address) if one is None else [one]


def _matches(pattern: str) -> list[Path]:
    return _some((p for each in glob.glob(pattern, recursive=True) if _is_file(p := Path(each))), pattern)


def _some(found: Iterable[File], pattern: str) -> list[File]:
    files = sorted(found, key=_by_name)
    if not files:
        raise InputFailure("no file matches", where=pattern, hint="quote the pattern and check its folder")
    return files


def _folder(folder: Path) -> list[Path]:
    return _data_files((p for p in folder.iterdir() if _is_file(p)), str(folder))


def _is_file(path: Path) -> bool:
    """Also a link to nothing: a file is missing there, which reading tells."""
    return path.is_file() or not path.exists()


def _data_files(found: Iterable[File], folder: str) -> list[File]:
    """A folder's Parquet parts, or else its data files; not those of folders below."""
    files = sorted((file for file in found if _is_data(file.name)), key=_by_name)
    if not files:
        raise InputFailure("no trace file in this folder", where=folder, hint=f"looked for {_suffixes()}")
    return [file for file in files if file.name.endswith(".parquet")] or files


def _neighbour(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"folder '{folder}' does not exist"
    names = [p.name for p in folder.iterdir() if _is_data(p.name) or (p.is_dir() and not p.name.startswith("."))]
    return nearest(path.name, names) if len(names) <= 5_000 else f"look in '{folder}'"


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(DATA_SUFFIXES + PACKED_SUFFIXES)


def _suffixes() -> str:
    return ", ".join((*DATA_SUFFIXES, *PACKED_SUFFIXES))


def _by_name(file: Path | Object) -> list[str | int]:
    return _natural(str(file))


def _natural(text: str) -> list[str | int]:
    """A sort key under which part-2 comes before part-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", text)]


def _plain(source: Source) -> Iterator[Source]:
    try:
        with source.path.open("rb") as file:
            head = file.read(TAR_MAGIC_AT + len(TAR))
    except OSError as error:
        raise InputFailure(f"cannot be read ({error.strerror or error})", where=source.shown) from error
    if head.startswith((GZIP, ZSTD)):
        yield from _plain(Source(_decompressed(source, head), source.shown))
    elif head[TAR_MAGIC_AT:] == TAR:
        yield from _members(source)
    else:
        yield source


def _decompressed(source: Source, head: bytes) -> Path:
    """Stream the compressed file to a scratch file of the same name without its last suffix."""
    import zstandard

    target = scratch_file(source.path.name.rsplit(".", 1)[0])
    try:
        with target.open("wb") as file:
            if head.startswith(GZIP):
                with gzip.open(source.path, "rb") as packed:
                    shutil.copyfileobj(packed, file, 2**20)
            else:
                _decompress_frames(source.path, file)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputFailure(f"cannot be decompressed ({error})", where=source.shown) from error
    return target


def _decompress_frames(path: Path, target: IO[bytes]) -> None:
    """Frame by frame: what zstandard reads as a stream it takes for whole where a frame breaks off."""
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame = reader.decompressobj()
    with path.open("rb") as packed:
        while block := packed.read(2**17):
            while block:
                frame = reader.decompressobj() if frame.eof else frame
                target.write(frame.decompress(block))
                block = frame.unused_data
    if not frame.eof:
        raise EOFError("the file ended before the end of a frame")


def _members(source: Source) -> Iterator[Source]:
    """The archive's data files by name. Only names' last parts are used, so that none can escape the scratch folder."""
    try:
        with tarfile.open(source.path, "r:") as archive:
            members = [m for m in archive.getmembers() if m.isreg() and _is_data(Path(m.name).name)]
            found = [_extracted(archive, m, source) for m in sorted(members, key=lambda m: _natural(m.name))]
    except (tarfile.TarError, OSError) as error:
        raise InputFailure(f"cannot be unpacked ({error})", where=source.shown) from error
    if not found:
        raise InputFailure("no trace file in this archive", where=source.shown, hint=f"looked for {_suffixes()}")
    for member in found:
        yield from _plain(member)


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo, source: Source) -> Source:
    target = scratch_file(Path(member.name).name)
    content = archive.extractfile(member)
    assert content is not None  # a regular file has content
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, 2**20)
    return Source(target, f"{source.shown}:{member.name}")
