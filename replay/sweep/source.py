"""The requests of a sweep by seed and load: a trace thinned and replicated, or a workload generated anew.

What was read stays in the process that read it, so a worker reads the trace once. A worker on another host reads
nothing: it is given what was read elsewhere.
"""

from atexit import register
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import polars as pl

from replay.cluster.mapping import mapped
from replay.cluster.spec import Cluster
from replay.session import replayable
from replay.sweep.spec import Sweep
from toolkit import plugins
from toolkit.selection import Selection
from toolkit.trace_options import open_trace
from toolkit.traces import Trace, TraceInfo

Requests = tuple[pl.DataFrame, TraceInfo]
_given: dict["Source", Requests] = {}
_specified: dict["Source", Path] = {}


@dataclass(frozen=True)
class Source:
    """What a worker has to know to make any point's requests."""

    sweep: Sweep
    cluster: Cluster


def give(source: Source, requests: Requests) -> None:
    """Let `read` return in this process what was read in another."""
    _given[source] = requests


def give_workload(source: Source, text: bytes) -> None:
    """Let this process generate from a specification of this text, whose file need not be here."""
    path = Path(mkdtemp(prefix="trace-sweep-")) / "workload.yaml"
    register(rmtree, path.parent, ignore_errors=True)
    path.write_bytes(text)
    _specified[source] = path


@lru_cache(maxsize=2)
def requests(source: Source, seed: int, load: float) -> Requests:
    """The requests that a seed brings at a load, as the cluster's models serve them."""
    if source.sweep.workload is not None:
        return _served(source, _generated(source, seed, load))
    frame, info = read(source)
    selection = Selection(sample=source.sweep.share if source.sweep.share < 1 else None, scale_load=load)
    if not selection:
        return frame, info
    chosen = replace(selection, seed=seed).apply(Trace(frame.lazy(), info))
    return chosen.frame.collect(), chosen.info


@lru_cache(maxsize=1)
def read(source: Source) -> Requests:
    """The trace as it was named and cut; which of its models is whose is settled before any request is left out."""
    if source in _given:
        return _given[source]
    sweep = source.sweep
    options: dict[str, Any] = {
        **_selection(sweep),
        "trace_format": sweep.format,
        "columns": tuple(f"{ours}={theirs}" for ours, theirs in sweep.map.items()),
        "time_unit": sweep.time_unit,
    }
    return _served(source, open_trace(sweep.paths, options))


def _generated(source: Source, seed: int, load: float) -> Trace:
    generate = plugins.load("reader", "workload")
    made: Trace = generate(_specified.get(source, source.sweep.workload), seed=seed, load=load)
    return Selection(**_selection(source.sweep)).apply(made)


def _selection(sweep: Sweep) -> dict[str, Any]:
    return {
        "from_s": sweep.from_,
        "to_s": sweep.to,
        "models": sweep.model,
        "tenants": sweep.tenant,
        "limit": sweep.limit,
        "speed": sweep.speed,
    }


def _served(source: Source, trace: Trace) -> Requests:
    """What the cluster is to serve of a trace."""
    frame, _ = mapped(source.cluster, replayable(trace, source.sweep.session_gap_s))
    span_s = frame["arrival_s"].max()
    return frame, replace(trace.info, rows_kept=len(frame), span_s=span_s)  # type: ignore[arg-type]
