"""Downloads that go on where they broke off and are checked before they get their name."""

import shutil
from collections.abc import Callable
from hashlib import file_digest
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from toolkit.errors import InputFailure
from workloads.catalogue import Published

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
Progress = Callable[[int, int | None], None]  # bytes so far, and in all where the server says


def fetch(file: Published, folder: Path, progress: Progress | None = None) -> tuple[Path, str]:
    """Download `file` into `folder`; its path and its sha256. What is there and right is not fetched again.

    A download that breaks off stays beside it as NAME.partial and is continued by the next call, if the server still
    has the same file (by its ETag or date). Raises InputFailure when that is impossible or the checksum is wrong.
    """
    target = folder / file.name
    if target.exists():
        return target, _checked(target, file, target)
    folder.mkdir(parents=True, exist_ok=True)
    part, tag = target.with_name(target.name + ".partial"), target.with_name(target.name + ".tag")
    if not (file.bytes is not None and part.exists() and part.stat().st_size == file.bytes):
        _download(file, part, tag, progress or (lambda done, total: None))
    digest = _checked(part, file, target)
    part.replace(target)
    tag.unlink(missing_ok=True)
    return target, digest


def _download(file: Published, part: Path, tag: Path, progress: Progress) -> None:
    try:
        with _opened(file.url, part, tag) as response:
            resumed = response.status == 206
            total = _total(response, part.stat().st_size if resumed else 0)
            tag.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
            with part.open("ab" if resumed else "wb") as out:
                while chunk := response.read(CHUNK_BYTES):
                    out.write(chunk)
                    progress(out.tell(), total)
    except HTTPError as error:
        hint = "look at the data set's page, `trace datasets show`"
        raise InputFailure(f"the server answers {error.code} {error.reason}", where=file.url, hint=hint) from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise _broken(file, part, error) from error
    done = part.stat().st_size
    if total is not None and done < total:
        raise _broken(file, part, f"{done:,} of {total:,} bytes came")


def _opened(url: str, part: Path, tag: Path) -> HTTPResponse:
    """The response, for the rest only where a part is there that the server can still continue."""
    known = tag.read_text() if tag.exists() else ""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "trace-toolkit", "Accept-Encoding": "identity"}
    if done and known and not known.startswith("W/"):
        headers |= {"Range": f"bytes={done}-", "If-Range": known}
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416 or "Range" not in headers:
            raise
        part.unlink()  # longer than the file that is there now
        return _opened(url, part, tag)
    return response


def _total(response: HTTPResponse, before: int) -> int | None:
    length = response.headers.get("Content-Length")
    return before + int(length) if length is not None and length.isdigit() else None


def _broken(file: Published, part: Path, error: object) -> InputFailure:
    """Offline from the start, or interrupted."""
    reason = getattr(error, "reason", error)
    if part.exists() and part.stat().st_size:
        hint = f"run the same command again to go on from {part.stat().st_size:,} bytes"
        return InputFailure(f"the download broke off ({reason})", where=file.url, hint=hint)
    hint = f"this machine may be offline; fetch the file elsewhere and put it here as {part.with_suffix('')}"
    return InputFailure(f"cannot be reached ({reason})", where=file.url, hint=hint)


def _checked(path: Path, file: Published, target: Path) -> str:
    """The file's sha256, where it is what the catalogue says or the catalogue does not know."""
    with path.open("rb") as opened:
        digest = file_digest(opened, "sha256").hexdigest()
    size = path.stat().st_size
    wrong = (file.sha256 is not None and digest != file.sha256) or (file.bytes is not None and size != file.bytes)
    if not wrong:
        return digest
    aside = target.with_name(target.name + ".wrong")
    if path != target:
        shutil.move(path, aside)
    what = f"is not the published file: {size:,} bytes, sha256 {digest}"
    expected = f"{'' if file.bytes is None else f'{file.bytes:,} bytes, '}sha256 {file.sha256 or 'unknown'}"
    shown = target if path == target else aside
    raise InputFailure(what, where=str(shown), hint=f"published: {expected}; remove it and fetch again")
