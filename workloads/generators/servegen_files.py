"""ServeGen's published parameters: clients × windows of rate, burstiness and length distributions.

`chunk-N-trace.csv` has no header: window start (s), requests/s, CV of the gaps, family (Gamma, Weibull or empty) and
two parameters of it that are not used: they do not always give the rate and the CV that stand beside them.
`chunk-N-dataset.json` maps coarser windows' starts to {field: "{tokens: probability, …}"}.
"""

import re
import tarfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from toolkit.errors import InputFailure
from workloads.generators.lengths import LONGEST

Floats = NDArray[np.float64]
SCHEMA = pl.Schema(
    {
        "start_s": pl.Float64(),
        "rate_per_s": pl.Float64(),
        "gap_cv": pl.Float64(),
        "family": pl.String(),
        "first": pl.Float64(),
        "second": pl.Float64(),
    }
)
TRACE_FILE = re.compile(r"(?:^|/)chunk-(\d+)-trace\.csv$")
FAMILIES = ("Gamma", "Weibull")
LENGTHS = ("input_tokens", "output_tokens")


@dataclass(frozen=True)
class Pmf:
    """Token counts and the probability of each or a smaller one."""

    tokens: Floats
    cumulative: Floats

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        return self.tokens[np.searchsorted(self.cumulative, rng.random(n), side="right")]


@dataclass(frozen=True)
class Client:
    """One client's parameters. `windows` is the trace file's table; texts of pmfs by window start are parsed late."""

    number: int
    where: str
    windows: pl.DataFrame
    lengths: dict[float, dict[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"client-{self.number}"

    def pmf(self, column: str, time_s: float) -> tuple[Pmf | None, bool]:
        """The lengths at a time, and whether they are borrowed from the client's nearest window that has some."""
        known = self._known[column]
        if not len(known):
            return None, False
        at = known[np.searchsorted(known, time_s, side="right") - 1] if time_s >= known[0] else known[0]
        inside = self._starts[np.searchsorted(self._starts, time_s, side="right") - 1] == at
        return self._parsed(column, float(at)), not inside

    @cached_property
    def _starts(self) -> Floats:
        return np.array(sorted(self.lengths))

    @cached_property
    def _known(self) -> dict[str, Floats]:
        """Where each field has a distribution."""
        return {
            column: np.array(sorted(t for t, fields in self.lengths.items() if len(fields.get(column, "")) > 2))
            for column in LENGTHS
        }

    @cached_property
    def _cache(self) -> dict[tuple[str, float], Pmf]:
        return {}

    def _parsed(self, column: str, start_s: float) -> Pmf:
        key = (column, start_s)
        if key not in self._cache:
            self._cache[key] = parsed(self.lengths[start_s][column], f"{self.where}, window {start_s:.0f}, {column}")
        return self._cache[key]


def parsed(text: str, where: str) -> Pmf:
    """A distribution written as a Python dict of numbers."""
    try:
        pairs = np.array(re.split("[:,]", text.strip().strip("{}")), dtype=np.float64).reshape(-1, 2)
    except ValueError as error:
        raise InputFailure("is no {tokens: probability, …}", where=where) from error
    if (pairs[:, 1] < 0).any():
        raise InputFailure("has a probability below 0", where=where)
    pairs = pairs[np.isfinite(pairs).all(axis=1) & (pairs[:, 1] > 0)]
    if not len(pairs) or (pairs[:, 0] < 0).any() or (pairs[:, 0] > LONGEST).any():
        raise InputFailure(f"has no probability above 0, or token counts outside 0 to {LONGEST}", where=where)
    cumulative = np.cumsum(pairs[:, 1])
    return Pmf(pairs[:, 0], np.append(cumulative[:-1] / cumulative[-1], 1.0))


def read_clients(path: Path) -> list[Client]:
    """The clients in a folder of chunk files or a .tar, .tar.gz or .tar.zst of one, by number."""
    files = _files(path)
    traces = {int(m.group(1)): name for name in files if (m := TRACE_FILE.search(name))}
    if not traces:
        hint = "name the folder that ServeGen's chunk files lie in"
        raise InputFailure("no chunk-N-trace.csv in it", where=str(path), hint=hint)
    return [_client(number, traces[number], files) for number in sorted(traces)]


def _files(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {str(file): file.read_bytes() for file in sorted(path.glob("chunk-*")) if file.is_file()}
    import zstandard

    try:
        data = path.read_bytes()
        if path.suffix == ".zst":
            data = zstandard.ZstdDecompressor().stream_reader(BytesIO(data)).read()
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            members = [m for m in archive if m.isfile() and "chunk-" in m.name]
            return {m.name: file.read() for m in members if (file := archive.extractfile(m)) is not None}
    except (OSError, EOFError, tarfile.TarError, zlib.error, zstandard.ZstdError) as error:
        hint = "name a folder of ServeGen's chunk files, or a tar of one"
        raise InputFailure(f"cannot be read ({error})", where=str(path), hint=hint) from error


def _client(number: int, name: str, files: dict[str, bytes]) -> Client:
    lengths = files.get(name.replace("-trace.csv", "-dataset.json"))
    return Client(number, name, _windows(files[name], name), _texts(lengths, name) if lengths else {})


def _windows(data: bytes, where: str) -> pl.DataFrame:
    try:
        table = pl.read_csv(data, has_header=False, schema=SCHEMA, null_values=["nan", ""])
    except pl.exceptions.PolarsError as error:
        raise InputFailure(f"is no table of six columns ({str(error).splitlines()[0]})", where=where) from error
    busy = pl.col("rate_per_s") > 0
    wrong = table.filter(
        pl.any_horizontal(pl.col("start_s", "rate_per_s").is_null())
        | (pl.col("rate_per_s") < 0)
        | (busy & (~pl.col("family").is_in(FAMILIES) | ~(pl.col("gap_cv") > 0)).fill_null(True))
    )
    steps = table["start_s"].diff().drop_nulls()
    if len(table) < 2:
        raise InputFailure("has fewer than two windows", where=where)
    if steps.n_unique() != 1 or steps[0] <= 0:
        raise InputFailure("the windows are not evenly spaced", where=where)
    if len(wrong):
        raise InputFailure(f"the window at {wrong['start_s'][0]} s has no rate, CV and family", where=where)
    return table


def _texts(data: bytes, where: str) -> dict[float, dict[str, str]]:
    try:
        texts = {float(start): fields for start, fields in orjson.loads(data).items()}
        if all(isinstance(fields.get(column, ""), str) for fields in texts.values() for column in LENGTHS):
            return texts
        raise ValueError("a distribution is no text")
    except (orjson.JSONDecodeError, ValueError, AttributeError) as error:
        shown = where.replace("-trace.csv", "-dataset.json")
        raise InputFailure(f"is no mapping of windows to lengths ({error})", where=shown) from error
