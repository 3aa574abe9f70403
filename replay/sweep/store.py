"""Writes a sweep's folder: what was asked for first, then a small part for each point, in the end one table of all."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from replay.sweep.points import Point, listed
from replay.sweep.source import Source, read
from toolkit.errors import RunFailure
from toolkit.results import whole_file
from toolkit.runs import versions
from toolkit.schema import CAPACITY, SWEEP, conform
from toolkit.sources import flat
from toolkit.sweeps import SweepFolder, in_order

SHOWN = 3  # changes that a refusal names


class SweepStore:
    """A sweep's folder while it is being filled. Every file appears whole or not at all."""

    def __init__(self, path: Path, info: dict[str, Any]):
        self.path, self.info = path, info
        table = SweepFolder(path, info).table()
        self._rows = {row["point"]: row for row in table.iter_rows(named=True) if row["error"] is None}
        self._failed: dict[str, dict[str, Any]] = {}

    @classmethod
    def open(cls, path: Path, about: dict[str, Any]) -> "SweepStore":
        """Start a sweep, or go on with the one that is there; RunFailure with what differs where it is another."""
        if not (path / "sweep.json").exists():
            store = cls(path, {"created": _now(), "state": "running", **about})
        else:
            begun = SweepFolder.open(path).info
            _refuse_changes(path, begun, about)
            store = cls(path, {**begun, "state": "running"})
        store._write_info()
        return store

    def has(self, point: Point) -> bool:
        """Whether a point is done; one that failed is tried again when the sweep is."""
        return point.key(self.identity) in self._rows.keys() | self._failed.keys()

    @property
    def identity(self) -> str:
        """A hash of everything but the axes that a row depends on."""
        return str(self.info["identity"])

    def add(self, point: Point, results: Mapping[str, Any]) -> None:
        """Keep a point's row."""
        key = point.key(self.identity)
        row = {"point": key, **point.axes(), **results}
        (self._rows if results.get("error") is None else self._failed)[key] = row
        (self.path / "points").mkdir(parents=True, exist_ok=True)
        _write_table(_table([row]), self.path / "points" / f"{key}.parquet")

    def table(self) -> pl.DataFrame:
        """All rows in order."""
        return in_order(_table([*self._rows.values(), *self._failed.values()]), self.info)

    def finish(self, capacity: list[dict[str, Any]]) -> None:
        """Put all rows into one table, and what the search found beside it."""
        _write_table(self.table(), self.path / "sweep.parquet")
        for part in self.path.glob("points/*.parquet"):
            part.unlink()
        if capacity:
            frame = pl.DataFrame(capacity, schema=CAPACITY)
            _write_table(frame, self.path / "capacity.parquet")
        self.info |= {"state": "finished", "finished": _now()}
        self._write_info()

    def log(self, what: str) -> None:
        """Keep a traceback."""
        with (self.path / "errors.log").open("a") as file:
            file.write(f"{what}\n")

    def _write_info(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot be written ({error.strerror or error})"
            raise RunFailure(what, where=str(self.path), hint="choose another --out") from error
        with whole_file(self.path / "sweep.json") as file:
            file.write(orjson.dumps(self.info, option=orjson.OPT_INDENT_2))


def about(source: Source, spec: Mapping[str, Any], command: str) -> dict[str, Any]:
    """What sweep.json says of a sweep that is to begin; `spec` is SWEEP.yaml's content."""
    sweep = source.sweep
    said = {
        "spec": spec,
        "cluster": asdict(source.cluster),
        "source": _source(source),
        "versions": versions(),
    }
    plain = orjson.loads(orjson.dumps(said))
    identity = sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()
    gpus, load = listed(sweep, source.cluster)
    lists = {"placements": sweep.placements, "schedulers": sweep.compared, "gpus": gpus, "load": load}
    return {**plain, **orjson.loads(orjson.dumps(lists)), "identity": identity, "command": command}


def _source(source: Source) -> dict[str, Any]:
    """Where the requests come from, by content."""
    sweep = source.sweep
    if sweep.workload is not None:
        return {"workload": str(sweep.workload), "sha256": sha256(sweep.workload.read_bytes()).hexdigest()}
    info = read(source)[1].to_dict()
    return {name: info[name] for name in ("name", "format", "sha256", "rows_kept", "dropped", "span_s")}


def _refuse_changes(path: Path, begun: dict[str, Any], about: dict[str, Any]) -> None:
    if begun["identity"] == about["identity"]:
        return
    parts = ("spec", "cluster", "source", "versions")
    before, now = (flat({part: info[part] for part in parts}) for info in (begun, about))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    said = [f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}" for name in changed[:SHOWN]]
    more = f", and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    raise RunFailure(
        f"was begun with other settings: {', '.join(said)}{more}", where=str(path), hint="choose another --out"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return conform(pl.DataFrame(rows, schema=dict(SWEEP)), SWEEP, source="sweep")


def _write_table(frame: pl.DataFrame, target: Path) -> None:
    with whole_file(target) as file:
        frame.write_parquet(file)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
