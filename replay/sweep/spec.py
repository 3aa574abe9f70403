"""SWEEP.yaml: what is replayed, on which cluster, and what is tried."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from replay.cluster.spec import Cluster, load_cluster
from toolkit import plugins, specs
from toolkit.errors import Failure, InputFailure

Scale = tuple[float, float]  # of the TTFT and of the TPOT objective
SAMPLE = 0.9  # of a trace's requests, where several seeds are to differ


@dataclass(frozen=True)
class Search:
    """The fewest GPUs, or the highest load, at which `metric` reaches `attainment`, between `from` and `to`.

    A load is found to within `tolerance`, as a share of it.
    """

    over: Literal["gpus", "load"]
    from_: float
    to: float
    attainment: float = 0.99
    metric: Literal["joint", "ttft", "tpot"] = "joint"
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.from_ <= self.to:
            raise ValueError("from and to must be above 0, and from at most to")
        if self.over == "gpus" and (self.from_ % 1 or self.to % 1):
            raise ValueError("from and to are numbers of GPUs, so they must be whole")
        if not 0 < self.attainment <= 1:
            raise ValueError(f"attainment is {self.attainment:g}; it lies above 0 and is at most 1")
        if not 0.001 <= self.tolerance <= 1:
            raise ValueError(f"tolerance is {self.tolerance:g}; it lies between 0.001 and 1")


@dataclass(frozen=True)
class Sweep:
    """Everything that SWEEP.yaml says: every combination of the lists is replayed.

    The requests are those of `trace`, read and cut as by `trace replay`, of which each seed keeps another `sample`; or
    of `workload`, generated anew by each seed. `gpus` is how many there are of the cluster's first type. A `slo_scale`
    is one number for both objectives, or [TTFT, TPOT]; without any, requests keep the objectives that they have.
    """

    cluster: Path
    trace: Path | tuple[Path, ...] | None = None
    workload: Path | None = None
    placements: tuple[str, ...] = ("static",)
    schedulers: tuple[str, ...] = ("fcfs",)
    gpus: tuple[int, ...] = ()
    load: tuple[float, ...] = ()
    slo_scale: tuple[float | Scale, ...] = ()
    seeds: tuple[int, ...] = (0,)
    sample: float | None = None
    search: Search | None = None
    sessions: Literal["closed", "open"] = "closed"
    session_gap_s: float | None = None
    format: str | None = None
    map: dict[str, str] = field(default_factory=dict, hash=False)
    time_unit: Literal["s", "ms", "us", "ns", "datetime"] | None = None
    from_: float | None = None
    to: float | None = None
    model: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    limit: int | None = None
    speed: float = 1.0

    def __post_init__(self) -> None:
        if (self.trace is None) == (self.workload is None):
            raise ValueError("give either a trace or a workload")
        for name in ("placements", "schedulers", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        for name in ("placements", "schedulers", "gpus", "load", "slo_scale", "seeds"):
            _check_different(name, getattr(self, name))
        _check_above_0("gpus", self.gpus)
        _check_above_0("load", self.load)
        _check_above_0("slo_scale", [s for pair in self.scales if pair for s in pair])
        _check_above_0("speed", [self.speed])
        if min(self.seeds) < 0:
            raise ValueError("seeds must be 0 or more")
        self._check_sample()

    def _check_sample(self) -> None:
        if self.sample is None:
            return
        if not 0 < self.sample <= 1:
            raise ValueError(f"sample is {self.sample:g}; it lies above 0 and is at most 1")
        if self.workload is not None:
            raise ValueError("sample is for a trace; a workload is generated anew by each seed")
        if self.sample == 1 and len(self.seeds) > 1:
            raise ValueError("with sample 1 all seeds are the same; give one seed, or a smaller sample")

    @property
    def share(self) -> float:
        """The share of the trace's requests that a seed keeps."""
        if self.workload is not None or (self.sample is None and len(self.seeds) == 1):
            return 1.0
        return SAMPLE if self.sample is None else self.sample

    @property
    def scales(self) -> tuple[Scale | None, ...]:
        """Scales of (TTFT, TPOT); None: the objectives that requests have."""
        return tuple(s if isinstance(s, tuple) else (s, s) for s in self.slo_scale) or (None,)

    @property
    def compared(self) -> tuple[str, ...]:
        """The schedulers, first come first served among them: a table without it says little."""
        return self.schedulers if "fcfs" in self.schedulers else ("fcfs", *self.schedulers)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The trace's files."""
        return self.trace if isinstance(self.trace, tuple) else (self.trace,) if self.trace else ()


def load_sweep(path: Path) -> tuple[Sweep, Cluster]:
    """Read SWEEP.yaml and the cluster that it names; InputFailure names the line that does not fit."""
    node = specs.load(path)
    sweep: Sweep = specs.build(node, Sweep)
    for key, kind in (("placements", "placement"), ("schedulers", "scheduler")):
        for item in getattr(node.get(key), "value", ()):
            _check_plugin(item, kind)
    return sweep, load_cluster(sweep.cluster)


def _check_plugin(item: specs.Node, kind: str) -> None:
    """Let a policy that does not exist, or a parameter that it has not, be named by its line."""
    try:
        plugins.create(kind, str(item.value))
    except Failure as failure:
        raise InputFailure(failure.what, where=item.where, hint=failure.hint) from failure


def _check_different(name: str, values: tuple[Any, ...]) -> None:
    twice = next((v for v in values if values.count(v) > 1), None)
    if twice is not None:
        raise ValueError(f"{name} holds {twice} twice")


def _check_above_0(name: str, values: Iterable[float]) -> None:
    wrong = next((v for v in values if not v > 0), None)
    if wrong is not None:
        raise ValueError(f"{name} holds {wrong:g}; it must be above 0")
