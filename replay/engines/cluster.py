"""The simulated engine of a whole cluster: several models a GPU, under a placement."""

import copy
from dataclasses import asdict
from typing import Any

import polars as pl

from replay.cluster.driver import ClusterDriver
from replay.cluster.hosting import Hosting
from replay.cluster.load import utilisation
from replay.cluster.spec import Cluster
from replay.simulation.sensitivity import SCALES, quantile_rows
from toolkit import plugins
from toolkit.protocols import Scheduler, Watch
from toolkit.runs import RunWriter
from toolkit.traces import TraceInfo


class ClusterEngine:
    """GPUs that hold several models in virtual time: elastic KV pages, loads, evictions and migrations by a placement.

    `placement` is a spec (NAME:key=value,…). A replay that is resumed starts over: placements keep a memory of their
    own.
    """

    def __init__(self, cluster: Cluster, placement: str, closed: bool = True, jump: bool = True, band: bool = True):
        self.cluster, self.placement, self.closed, self.jump, self.band = cluster, placement, closed, jump, band
        plugins.create("placement", placement)

    def describe(self) -> dict[str, Any]:
        """The cluster and the placement, as run.json and the report state them."""
        return {
            "name": "cluster",
            "cluster": asdict(self.cluster),
            "placement": self.placement,
            "sessions": "closed" if self.closed else "open",
        }

    def replay(
        self, trace: pl.DataFrame, info: TraceInfo, scheduler: Scheduler, writer: RunWriter, watch: Watch
    ) -> bool:
        """Replay `trace` into the run folder. True when finished."""
        hosting, untouched = Hosting(self.cluster, trace), copy.deepcopy(scheduler)
        writer.truncate({})
        driver = self._driver(hosting, info, scheduler)
        if not driver.run(writer, watch):
            return False
        summary = driver.summary()
        if self.band:
            rows = [quantile_rows(driver.controller.state, 1.0)]
            for scale in SCALES:
                again = self._driver(hosting, info, copy.deepcopy(untouched), scale)
                if not again.run(None, watch):
                    return False
                rows.append(quantile_rows(again.controller.state, scale))
            writer.append("sensitivity", pl.concat(rows))
        writer.finish(**summary, **utilisation(hosting, info))
        return True

    def _driver(self, hosting: Hosting, info: TraceInfo, scheduler: Scheduler, scale: float = 1.0) -> ClusterDriver:
        placement = plugins.create("placement", self.placement)
        who = plugins.split_spec(self.placement)[0]
        return ClusterDriver.prepare(
            hosting, info, scheduler, placement, who, closed=self.closed, jump=self.jump, scale=scale
        )
