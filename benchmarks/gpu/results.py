"""What `python -m benchmarks.gpu` wrote, from one folder or from those of several calls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import records
from toolkit.errors import InputFailure

Line = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The lines of each measurement; of a point that was measured twice the last, of one that failed none."""

    lines: dict[str, list[Line]]
    failed: list[Line]
    facts: dict[str, Any]

    def of(self, measurement: str, **where: Any) -> Iterator[Line]:
        """The lines whose point is like that."""
        for line in self.lines.get(measurement, []):
            if all(line["point"].get(name) == value for name, value in where.items()):
                yield line

    @property
    def device(self) -> str:
        return str(self.facts.get("gpu") or self.facts.get("cpu"))

    @property
    def slug(self) -> str:
        """The device's name as that of a file."""
        words = "".join(c.lower() if c.isascii() and c.isalnum() else " " for c in self.device).split()
        return "-".join(words) or "device"

    @property
    def said(self) -> str:
        """What a number of these results must say of itself."""
        facts, dates = self.facts, sorted({line["at"][:10] for lines in self.lines.values() for line in lines})
        driver = f", driver {facts['driver']}" if "driver" in facts else ""
        when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
        return f"{self.device}{driver}, torch {facts['torch']}, transformers {facts['transformers']}, {when}"


def read(folders: Sequence[Path], smoke: bool) -> Results:
    """InputFailure where there is nothing, where devices are mixed, and for a smoke test unless it is wanted."""
    found: dict[str, dict[str, Line]] = {}
    failed, facts = [], []
    for path in sorted(path for folder in folders for path in folder.glob("*.jsonl")):
        for line in records.read(path.parent, path.stem):
            facts.append(line["facts"])
            if "error" in line:
                failed.append(line)
            else:
                found.setdefault(path.stem, {})[records.key(line["point"])] = line
    where = ", ".join(map(str, folders))
    if not found:
        raise InputFailure("has no results", where=where, hint="write them: python -m benchmarks.gpu --out FOLDER")
    _check(facts, where, smoke)
    measured = {(name, key) for name, lines in found.items() for key in lines}
    failed = [line for line in failed if (line["measurement"], records.key(line["point"])) not in measured]
    return Results({name: list(lines.values()) for name, lines in found.items()}, failed, facts[-1])


def _check(facts: Sequence[dict[str, Any]], where: str, smoke: bool) -> None:
    devices = {str(f.get("gpu") or f.get("cpu")) for f in facts}
    if len(devices) > 1:
        raise InputFailure(
            f"is of several devices: {', '.join(sorted(devices))}", where=where, hint="name one's folders"
        )
    if any(f["smoke"] for f in facts) and not smoke:
        hint = "measure on a GPU, or see what it looks like: --smoke"
        raise InputFailure("is a smoke test with tiny models, no measurement", where=where, hint=hint)
