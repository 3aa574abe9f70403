"""The simulated engine of a whole cluster: several models a GPU, under a placement."""

import copy
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from replay.cluster.checkpoint import Checkpoint, save
from replay.cluster.driver import ClusterDriver
from replay.cluster.hindsight import best_in_hindsight, placement_of
from replay.cluster.hosting import Hosting
from replay.cluster.load import baselines, utilisation, with_objectives
from replay.cluster.mapping import mapped
from replay.cluster.spec import Cluster, load_cluster
from replay.session import replayable
from replay.shaping import ramped
from replay.simulation.sensitivity import SCALES, quantile_rows
from toolkit import plugins
from toolkit.placing import Placement
from toolkit.protocols import Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.trace_options import open_trace
from toolkit.traces import TraceInfo

Requests = tuple[pl.DataFrame, TraceInfo]


class ClusterEngine:
    """GPUs that hold several models in virtual time: elastic KV pages, loads, evictions and migrations by a placement.

    `placement` is a spec (NAME:key=value,…). With `slo_scale`, objectives are each model's P95 TTFT and TPOT on GPUs of
    its own times these two; they are measured with the requests that `unscaled` gives, where it is given, else with
    those that are replayed.
    """

    starts_over = "it left no checkpoint, as where a policy in a file has a memory, or a scheduler is asked again"

    def __init__(
        self,
        cluster: Cluster,
        placement: str,
        closed: bool = True,
        jump: bool = True,
        band: bool = True,
        slo_scale: tuple[float, float] | None = None,
        unscaled: Callable[[], Requests] | None = None,
    ):
        self.cluster, self.placement, self.closed, self.jump, self.band = cluster, placement, closed, jump, band
        self.slo_scale, self.unscaled = slo_scale, unscaled
        plugins.create("placement", placement)

    def describe(self) -> dict[str, Any]:
        """The cluster and the placement, as run.json and the report state them."""
        return {
            "name": "cluster",
            "cluster": asdict(self.cluster),
            "placement": self.placement,
            "limits": {
                "gpus": ", ".join(f"{g.count} {g.type}" for g in self.cluster.gpus),
                "models": len(self.cluster.models),
                **asdict(self.cluster.limits),
            },
            "sessions": "closed" if self.closed else "open",
        }

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Replay `trace` into the run folder, from its checkpoint where it has one. True when finished."""
        served, left_out = mapped(self.cluster, trace)
        if self.slo_scale is not None:
            alone, about = self.unscaled() if self.unscaled else (trace, info)
            found = baselines(self.cluster, mapped(self.cluster, alone)[0], about)
            served = with_objectives(self.cluster, served, found, *self.slo_scale)
        hosting, untouched = Hosting(self.cluster, served), copy.deepcopy(scheduler)
        saved = Checkpoint.of(writer.path)

        def prepare(placement: Placement, policy: Scheduler | None = None, scale: float = 1.0) -> ClusterDriver:
            return self._driver(hosting, info, policy or copy.deepcopy(untouched), placement, scale)

        follows = best_in_hindsight(self.placement, prepare, watch) if saved is None else saved.follows
        driver = prepare(placement_of(self.placement, follows), scheduler)
        if saved is not None:
            saved.restore(driver, writer)
        elif watch.stopped():  # perhaps before all alternatives were tried
            return False
        else:
            writer.truncate({})
        if not driver.run(writer, watch, partial(save, driver, follows, writer)):
            return False
        summary = driver.summary()
        if self.band:
            rows = [quantile_rows(driver.controller.state, 1.0)]
            for scale in SCALES:
                again = prepare(placement_of(self.placement, follows), scale=scale)
                if not again.run(None, watch):
                    return False
                rows.append(quantile_rows(again.controller.state, scale))
            writer.append("sensitivity", pl.concat(rows))
        writer.finish(**summary, **utilisation(hosting, info), left_out=left_out, follows=follows)
        return True

    def _driver(
        self, hosting: Hosting, info: TraceInfo, scheduler: Scheduler, placement: Placement, scale: float
    ) -> ClusterDriver:
        who = plugins.split_spec(self.placement)[0]
        return ClusterDriver.prepare(
            hosting, info, scheduler, placement, who, closed=self.closed, jump=self.jump, scale=scale
        )


def from_options(options: dict[str, Any], placement: str) -> ClusterEngine:
    """The engine that `trace replay`'s options describe, under one placement."""
    return ClusterEngine(
        load_cluster(Path(options["cluster"])),
        placement,
        closed=options["sessions"] == "closed",
        band=options["band"],
        slo_scale=options["slo_scale"],
        unscaled=partial(_unscaled, options) if options["scale_load"] not in (None, 1.0) else None,
    )


def _unscaled(options: dict[str, Any]) -> Requests:
    """The requests that the options select, each once."""
    trace = open_trace([Path(path) for path in options["traces"]], {**options, "scale_load": 1.0})
    return ramped(replayable(trace, options["session_gap_s"]), options.get("ramp_s")), trace.info
