"""A workload's trace in memory, at a multiple of its rates: what a sweep over load and seeds replays."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from toolkit.traces import Trace, scan_canonical
from workloads.generate import generate
from workloads.generate_spec import Workload, read_spec
from workloads.generators.rhythm import RateChange


def generated(spec: Path, *, seed: int, load: float = 1.0) -> Trace:
    """The trace that a specification and a seed make when every stream's rate is multiplied by `load`."""
    with TemporaryDirectory(prefix="trace-generate-") as scratch:
        target = Path(scratch) / "trace.parquet"
        info = generate(_loaded(read_spec(spec), load), target, seed).info
        return Trace(scan_canonical(target, info).frame.collect().lazy(), info)


def _loaded(workload: Workload, load: float) -> Workload:
    if load == 1.0:
        return workload
    change = RateChange(0.0, load)
    streams = tuple((replace(s, changes=(*s.changes, change)), generator) for s, generator in workload.streams)
    return replace(workload, streams=streams, sha256=sha256(f"{workload.sha256} load {load}".encode()).hexdigest())
