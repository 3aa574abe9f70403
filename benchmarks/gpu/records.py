"""Results as they come: one JSON line a point in one file a measurement, so that what is cut off keeps what it has."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.timing import summary


def key(what: dict[str, Any]) -> str:
    """A point's parameters as text."""
    return json.dumps(what, sort_keys=True)


def file_of(folder: Path, measurement: str) -> Path:
    return folder / f"{measurement}.jsonl"


def read(folder: Path, measurement: str) -> Iterator[dict[str, Any]]:
    """The lines that are whole; the last may have been cut off."""
    path = file_of(folder, measurement)
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def done(folder: Path, measurement: str) -> set[str]:
    """The points that were measured; one that failed is tried again."""
    return {key(line["point"]) for line in read(folder, measurement) if "error" not in line}


def write(folder: Path, measurement: str, what: dict[str, Any], told: dict[str, Any], facts: dict[str, Any]) -> None:
    """Append a line, on disk before the next point begins."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"measurement": measurement, "point": what, **told, "at": at, "facts": facts})
    path = file_of(folder, measurement)
    cut = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a") as file:
        file.write(f"\n{line}\n" if cut else f"{line}\n")


def told(found: dict[str, Any]) -> dict[str, Any]:
    """Lists of samples by their summaries, the rest as it is."""
    return {name: summary(value) if _samples(value) else value for name, value in found.items()}


def _samples(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, float) for v in value)
