"""Which format a file has, judged by every loader from its first bytes."""

import re
from pathlib import Path

from toolkit import plugins
from toolkit.errors import InputFailure
from workloads.inputs import Source
from workloads.tables import LONE_RETURNS, MEND_RETURNS

HEAD_BYTES = 65_536
SURE_ENOUGH = 0.1  # what a loader says that would merely manage to read the file

_SERVEGEN = re.compile(r"chunk-\d+-(trace\.csv|dataset\.json)")


def detect(sources: list[Source]) -> str:
    """The format of the first source, of which every other one must be too.

    Raises InputFailure for a file that no loader knows, and for sources of more than one format.
    """
    first = sources[0]
    found = _format(first)
    loader = plugins.load("loader", found)()
    for other in sources[1:]:
        if loader.sniff(_head(other.path), other.path.name) < SURE_ENOUGH and not _is_empty(other):
            what = f"is not '{found}' like {first.shown}"
            raise InputFailure(what, where=other.shown, hint="read files of one format at a time, or say --format")
    return found


def _format(source: Source) -> str:
    head = _head(source.path)
    if not head:
        raise InputFailure("the file is empty", where=source.shown)
    _refuse_parameters(source)
    scores = {n: float(p.load()().sniff(head, source.path.name)) for n, p in plugins.plugins("loader").items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < SURE_ENOUGH:
        raise _unknown(source, head, best if scores[best] > 0 else None)
    return best


def _unknown(source: Source, head: bytes, near: str | None) -> InputFailure:
    known = ", ".join(sorted(plugins.plugins("loader")))
    what = f"no known trace format{_impression(head)}"
    closest = f"closest is {near}; " if near else ""
    if (written := _written(head)) is not None:
        return InputFailure(f"{what}: {written[0]}", where=source.shown, hint=written[1])
    hint = f"{closest}say --format ({known}) or name its columns with --map arrival_s=COLUMN,prompt_tokens=COLUMN,…"
    return InputFailure(what, where=source.shown, hint=hint)


def _impression(head: bytes) -> str:
    if b"\0" in head:
        return " (a binary file)"
    if len(head) == HEAD_BYTES and b"\n" not in head:
        return f" (its first line is longer than {HEAD_BYTES:,} bytes)"
    return f" (it begins {head[:60].decode(errors='replace').splitlines()[0]!r})"


def _written(head: bytes) -> tuple[str, str] | None:
    """How a table is written that would be read if it were written otherwise, and what to do about it."""
    first = head.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n", 1)[0]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is UTF-16", "save it as UTF-8"
    if b"\0" not in head and b"\n" in head and "\N{REPLACEMENT CHARACTER}" in first.decode(errors="replace"):
        return "its first line is not UTF-8", "save it as UTF-8"
    if b"\r" in first.rstrip(b"\r"):
        return LONE_RETURNS, MEND_RETURNS
    if first.startswith(b"["):
        return "it is one JSON array", "write one object a line (jq -c '.[]')"
    for mark, name in ((b"\t", "tabs"), (b";", "semicolons")):
        if first.count(mark) > first.count(b",") and not first.startswith(b"{"):
            return f"its columns are separated by {name}", "separate them by commas"
    return None


def _refuse_parameters(source: Source) -> None:
    if _SERVEGEN.fullmatch(Path(source.path).name):
        what = "ServeGen's parameters describe clients (rates, gaps, length distributions), not requests"
        raise InputFailure(what, where=source.shown, hint="name a trace with one row a request")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _is_empty(source: Source) -> bool:
    return source.path.stat().st_size == 0
