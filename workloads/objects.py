"""Objects of a store that speaks S3, named like files: `s3://bucket/trace`, `s3://bucket/trace/*.parquet`.

They are read through scratch copies. Where the store is and who may read is said by the environment, as its other
clients have it (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, …), never by the address.
"""

import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import IO, Any

from toolkit.errors import InputFailure
from workloads.scratch import scratch_file

SCHEME = "s3://"
MAGIC = "*["
LATEST = 4  # copies that a process keeps of what it reads in passing
_latest: OrderedDict["Object", Path] = OrderedDict()


@dataclass(frozen=True)
class Object:
    """One object of a store; `key` begins with the bucket."""

    key: str

    def __str__(self) -> str:
        return SCHEME + self.key

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @contextmanager
    def open(self, mode: str = "rb") -> Iterator[IO[bytes]]:
        """Read it as it comes."""
        with _asking(str(self)), _store(bucket_of(self.key)).open_input_stream(self.key) as content:
            yield content

    def copied(self) -> Path:
        """A scratch copy of it."""
        target = scratch_file(self.name)
        with self.open() as content, target.open("wb") as file:
            shutil.copyfileobj(content, file, 2**20)
        return target

    def in_passing(self) -> Path:
        """A copy that is removed once LATEST others were asked for."""
        if self not in _latest:
            _latest[self] = self.copied()
        _latest.move_to_end(self)
        while len(_latest) > LATEST:
            _latest.popitem(last=False)[1].unlink(missing_ok=True)
        return _latest[self]


def is_address(text: str) -> bool:
    """Whether the text names something in a store."""
    return text.startswith(SCHEME)


def is_pattern(text: str) -> bool:
    return any(sign in text for sign in MAGIC)


def bucket_of(key: str) -> str:
    return key.partition("/")[0]


def file_at(key: str) -> Object | None:
    """The object of just this key, if there is one."""
    with _asking(SCHEME + key):
        [about] = _store(bucket_of(key)).get_file_info([key])
    return Object(key) if about.is_file else None


def in_folder(key: str) -> list[Object]:
    """The objects in a folder, not those of folders below."""
    return _listed(key.rstrip("/"), deep=False)


def matching(pattern: str) -> list[Object]:
    """The objects whose keys fit; as in glob a star stays within a folder, and `**/` is any folders."""
    folders = pattern.split("/")
    fixed = folders[: next(i for i, folder in enumerate(folders) if is_pattern(folder))]
    return [one for one in _listed("/".join(fixed), deep=True) if _fits(one.key, pattern)]


def key_of(address: str) -> str:
    """The bucket and what follows; InputFailure where the bucket is missing, or holds a secret."""
    key = address.removeprefix(SCHEME)
    bucket = bucket_of(key)
    if "@" in bucket:
        hint = "give them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        raise InputFailure("the address holds credentials", where=SCHEME + "…@" + bucket.rpartition("@")[2], hint=hint)
    if not bucket or is_pattern(bucket):
        raise InputFailure("names no bucket", where=address, hint=f"write {SCHEME}BUCKET/FOLDER/*.parquet")
    return key


def _fits(key: str, pattern: str) -> bool:
    if "**/" in pattern:
        return fnmatchcase(key, pattern.replace("**/", "*"))
    names, patterns = key.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def _listed(folder: str, *, deep: bool) -> list[Object]:
    from pyarrow import fs

    with _asking(SCHEME + folder):
        selector = fs.FileSelector(folder, recursive=deep, allow_not_found=True)
        return [Object(one.path) for one in _store(bucket_of(folder)).get_file_info(selector) if one.is_file]


@cache
def _store(bucket: str) -> Any:
    """By bucket, as each may be in a region of its own."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(SCHEME + bucket)[0]


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """What a store refuses, as one line."""
    try:
        yield
    except OSError as error:
        said = str(error).splitlines()[0]
        hint = "check the address, and what the environment says of the store (AWS_ENDPOINT_URL, AWS_PROFILE, …)"
        raise InputFailure(f"cannot be read ({said})", where=address, hint=hint) from error
