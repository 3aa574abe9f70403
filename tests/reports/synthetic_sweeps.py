"""Sweeps that no replay made, for the tests of their page."""

from itertools import product
from pathlib import Path

import numpy as np
import orjson
import polars as pl
from synthetic_runs import HOSTILE

from toolkit.schema import CAPACITY, SWEEP, conform

SCALES = ((3.0, 3.0), (5.0, 2.0), (8.0, 4.0))
STRENGTH = {"static": 1.0, "prism:tau=1.2": 2.0}


def make_sweep(folder: Path, *, hostile: bool = False, search: bool = True, alike: bool = False) -> Path:
    """Two placements, `alike` or not, and two schedulers over GPUs, loads, objectives and three seeds; one failed."""
    folder.mkdir(parents=True)
    names = dict(zip(STRENGTH, HOSTILE[:2] if hostile else STRENGTH, strict=True))
    rng = np.random.default_rng(5)
    axes = product(STRENGTH.items(), ("fcfs", "srpt"), (1, 2, 4), (1.0, 2.0, 4.0, 8.0), SCALES, (0, 1, 2))
    rows = [_row(rng, names[p], 1.0 if alike else strength, *rest) for (p, strength), *rest in axes]
    rows[0] |= {"error": HOSTILE[0] if hostile else "not all models fit", **dict.fromkeys(list(SWEEP)[8:-1])}
    conform(pl.DataFrame(rows, schema=dict(SWEEP)), SWEEP, source="test").write_parquet(folder / "sweep.parquet")
    if search:
        found = [_capacity(names[p], load, s) for (p, s), load in product(STRENGTH.items(), (1.0, 2.0, 4.0))]
        pl.DataFrame(found, schema=CAPACITY).write_parquet(folder / "capacity.parquet")
    info = {
        "state": "finished",
        "spec": {"trace": "t.parquet", "slo_scale": [3, [5, 2], [8, 4]], "load": [1, 2, 4, 8]},
        "cluster": {"machine": HOSTILE[0] if hostile else "h100-sxm"},
        "source": {"name": HOSTILE[0] if hostile else "arena", "sha256": "0" * 64},
        "versions": {"polars": "2.1"},
        "placements": list(names.values()),
        "schedulers": ["fcfs", "srpt"],
        "command": "trace sweep sweep.yaml --out sweep",
    }
    (folder / "sweep.json").write_bytes(orjson.dumps(info))
    return folder


def _row(
    rng: np.random.Generator, placement: str, strength: float, scheduler: str, gpus: int, load: float,
    scale: tuple[float, float], seed: int,
) -> dict[str, object]:  # fmt: skip
    burden = load / (gpus * strength * scale[1])
    ttft, tpot = (float(np.exp(-((burden / s) ** 2)) - rng.uniform(0, 0.01)) for s in (1.0, 1.3))
    latencies = {c: float(rng.uniform(0.01, 9)) for c in SWEEP if c.endswith("_s") and c[4] == "_"}
    return {
        "point": f"{placement} {scheduler} {gpus} {load} {scale} {seed}",
        "placement": placement,
        "scheduler": scheduler,
        "gpus": gpus,
        "load": load,
        "seed": seed,
        "error": None,
        "slo_scale_ttft": scale[0],
        "slo_scale_tpot": scale[1],
        "requests": 900,
        "ok": 890,
        "rejected": 10,
        "with_slo": 900,
        "attainment_ttft": ttft,
        "attainment_tpot": tpot,
        "attainment": min(ttft, tpot),
        "utilisation": 0.1 * load / gpus,
        "goodput_per_s": 4.0,
        "offered_per_s": 5.0,
        "loads": 3,
        "evictions": 1,
        "migrations": 0,
        "preemptions": 2,
        "simulation_cpu_s": 0.1,
        **latencies,
    }


def _capacity(placement: str, load: float, strength: float) -> dict[str, object]:
    fewest = np.ceil(3 * load / strength) if load < 4 or strength > 1 else None
    return {
        "placement": placement,
        "scheduler": "fcfs",
        "load": load,
        "slo_scale_ttft": 5.0,
        "slo_scale_tpot": 2.0,
        "over": "gpus",
        "metric": "joint",
        "wanted": 0.99,
        "capacity": fewest,
        "capacity_low": fewest,
        "capacity_high": None if fewest is None else fewest + 1,
        "attainment": fewest and 0.993,
        "seeds": 3,
        "attainment_low": fewest and 0.991,
        "attainment_high": fewest and 0.995,
        "utilisation": 0.4,
        "tried": 5,
        "monotone": True,
        "said": f"At {placement}, this many.",
    }
