"""What one queue for all models of a GPU does for the model with the strict objective (Prism, Algorithm 2)."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.reproductions.prism_studies import MIDDLE, bursts_of_two
from benchmarks.reproductions.tables import over_seeds, shown
from replay.cluster.driver import ClusterDriver
from replay.cluster.hosting import Hosting
from replay.cluster.load import demand
from replay.cluster.spec import Cluster, GPUs, Hosted
from replay.placements.prism import Prism
from replay.simulation.state import FINISHED, PS
from toolkit import plugins
from toolkit.traces import Trace

STRICT, LAX = 0.3, 6.0  # TTFT objectives in seconds
SCHEDULERS = ("fcfs", "edf", "least-slack", "moore-hodgson")


class Apart(Prism):
    """Prism without its arbiter: every model a queue of its own."""

    arbitrates = False


def table(folder: Path, seeds: range) -> list[dict[str, Any]]:
    """Attainment of TTFT by model, for each scheduler with and without the common queue."""
    rows = []
    for common in (False, True):
        for scheduler in SCHEDULERS:
            each = [_attained(folder, scheduler, common, seed) for seed in seeds]
            row: dict[str, Any] = {"scheduler": scheduler, "queue": "one a GPU" if common else "one a model"}
            row |= {name: shown(over_seeds([100 * e[name] for e in each])) for name in ("strict", "lax", "both")}
            rows.append(row | {"load ρ": shown(over_seeds([e["rho"] for e in each]))})
    return rows


def _attained(folder: Path, scheduler: str, common: bool, seed: int) -> dict[str, float]:
    """Shares of the requests of each model whose first token was in time."""
    models = (Hosted("strict", MIDDLE, slo_ttft_s=STRICT), Hosted("lax", MIDDLE, slo_ttft_s=LAX))
    cluster = Cluster((GPUs("h100"),), models)
    trace = _trace(folder, seed)
    frame = trace.frame.collect()
    placement = Prism() if common else Apart()
    hosting = Hosting(cluster, frame)
    driver = ClusterDriver.prepare(
        hosting, trace.info, plugins.create("scheduler", scheduler), placement, "prism", closed=False
    )
    driver.run(None, None)
    q = driver.controller.state.requests
    met = (q["status"] == FINISHED) & ((q["first"] - q["arrival"]) / PS <= hosting.trace["slo_ttft_s"].to_numpy())
    strict = (frame["model"] == "strict").to_numpy()
    asked = demand(cluster, frame, trace.info) or (0.0, float("nan"))
    shares = {"strict": met[strict], "lax": met[~strict], "both": met}
    return {**{name: float(np.mean(values)) for name, values in shares.items()}, "rho": asked[1]}


def _trace(folder: Path, seed: int) -> Trace:
    path = folder / "arbitration.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(bursts_of_two("strict", "lax")))
    made: Trace = plugins.load("reader", "workload")(path, seed=seed, load=1.0)
    return made
