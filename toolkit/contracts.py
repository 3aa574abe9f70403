"""What every plugin of a kind must do, as functions that raise AssertionError: for our tests and third parties'."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from toolkit import plugins
from toolkit.placement_contract import check_placement as check_placement
from toolkit.protocols import LoadOptions, Scan
from toolkit.scheduler_contract import check_scheduler as check_scheduler
from toolkit.schema import TRACE, TRUTH, conform
from toolkit.traces import read_trace

ONLY_IN_SCANS = {
    "arrival", "drop_reason", "source_id", "parent_source_id", "row_hash", "status",
    "sent", "start", "first_token", "finish", "cached_tokens", "error", "token_s",
}  # fmt: skip
HEAD_BYTES = 65_536
SPAN_S = 600.0  # a generator is asked for so long a trace
EDGES_S = (0.5, 60.0, 60.0, 333.3, SPAN_S)


def check_loader(name: str, samples: Mapping[str, Path]) -> None:
    """Hold the registered loader `name` to the contract of toolkit.protocols.Loader.

    `samples` has a small good file of every format to be told apart, that of `name` among them.
    """
    check_sniffing(name, samples)
    loader = plugins.load("loader", name)()
    scan = loader.scan([samples[name]], LoadOptions())
    assert isinstance(scan, Scan), f"{name}: scan returns a {type(scan).__name__}"
    if scan.restored is None:
        unknown = set(scan.frame.collect_schema()) - ((set(TRACE) | ONLY_IN_SCANS) - {"request_id"})
        assert not unknown, f"{name}: the scan has columns that nobody reads: {sorted(unknown)}"
    check_reading(name, samples[name])


def check_sniffing(name: str, samples: Mapping[str, Path]) -> None:
    """The loader knows its own sample best of all loaders, and judges any bytes without failing."""
    loaders = {n: p.load()() for n, p in plugins.plugins("loader").items()}
    head = _head(samples[name])
    scores = {n: loader.sniff(head, samples[name].name) for n, loader in loaders.items()}
    others = {n: score for n, score in scores.items() if n != name}
    assert scores[name] > max(others.values(), default=0.0), f"{name}: its sample is claimed by another: {scores}"
    for odd in (b"", b"\0\xff" * 99, b"{", b"[]", b"\xef\xbb\xbf", head[: len(head) // 2], head[:7], b"\n" * 9):
        assert 0.0 <= loaders[name].sniff(odd, "odd") <= 1.0, f"{name}: no confidence from 0 to 1 for {odd[:20]!r}"


def check_reading(name: str, sample: Path) -> None:
    """The sample is recognised and reads as a trace, the same twice, with every row accounted for."""
    trace, again = read_trace([sample]), read_trace([sample])
    frame = trace.frame.collect()
    assert trace.info.format == name, f"{name}: its sample was read as {trace.info.format}"
    assert frame.schema == TRACE, f"{name}: not the TRACE schema"
    assert frame.height == trace.info.rows_kept > 0, f"{name}: {frame.height} rows, not {trace.info.rows_kept}"
    assert trace.info.rows_read == trace.info.rows_kept + sum(trace.info.dropped.values()), f"{name}: rows are missing"
    assert frame["request_id"].to_list() == list(range(frame.height)), f"{name}: request_id does not count from 0"
    timed = frame["arrival_s"].drop_nulls()
    assert timed.len() in (0, frame.height), f"{name}: some requests have an arrival and some have none"
    assert timed.is_sorted(), f"{name}: not in arrival order"
    assert timed.len() == 0 or timed[0] == 0.0, f"{name}: the first arrival is not 0"
    assert frame.equals(again.frame.collect()), f"{name}: two readings differ"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def check_generator(name: str, settings: Mapping[str, Any]) -> None:
    """Hold the registered generator `name`, made with `settings`, to the contract of toolkit.protocols.Generator.

    The settings must give requests within ten minutes.
    """
    generator = plugins.load("generator", name)(**settings)
    first, truth = _planted(generator, 1.0)
    again, _ = _planted(generator, 1.0)
    assert sum(map(len, first)) > 0, f"{name}: nothing arrives in {SPAN_S} s"
    assert all(a.equals(b) for a, b in zip(first, again, strict=True)), f"{name}: one seed, two traces"
    assert sum(map(len, _planted(generator, 0.0)[0])) == 0, f"{name}: a rate times 0 still gives requests"
    for start_s, end_s, frame in zip((0.0, *EDGES_S), EDGES_S, first, strict=False):
        unknown = set(frame.columns) - (set(TRACE) - {"request_id", "parent_id"})
        assert not unknown, f"{name}: columns that nobody reads: {sorted(unknown)}"
        arrival_s = frame["arrival_s"]
        assert arrival_s.is_sorted(), f"{name}: not in arrival order"
        assert arrival_s.is_between(start_s, end_s).all(), f"{name}: a request outside {start_s} to {end_s} s"
    conform(truth, TRUTH, source=f"truth of {name}")


def _planted(generator: Any, factor: float) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    planted = generator.plant(SPAN_S, _Constant(factor), np.random.default_rng(7))
    frames = planted.requests(iter(EDGES_S))
    return [frame for _, frame in zip(EDGES_S, frames, strict=False)], planted.truth


class _Constant:
    """A factor that is the same all the time."""

    def __init__(self, factor: float):
        self.factor = factor

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(len(time_s), self.factor)

    def cuts(self, start_s: float, end_s: float) -> NDArray[np.float64]:
        return np.zeros(0)
