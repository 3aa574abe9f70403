"""The core's source, run by the interpreter, gives the same bytes as compiled."""

import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from replay.cluster.spec import Cluster, EngineLimits, GPUs, Hosted, Sharing
from replay.schedulers.edf import EDF
from replay.simulation.setup import Limits
from tests.replay.clusters import Chaotic, replay_on, several
from tests.replay.simulations import Affine, make_trace, simulate
from toolkit import plugins

DISPLACING = ("trail:hold_share=0.7", "priority:displace=true", "uniboost:k=4", "uniboost:phase=base", "mlfq:levels=4")
SPECS = (*DISPLACING, "fcfs", "ltr:starve_s=0.2,period=4", "vtc", "driftsched-weighted", "moore-hodgson:window=4")
PLACED = "a cluster under a placement that does everything"
LIMITS = Limits(kv_blocks=60, max_num_seqs=5, max_num_batched_tokens=64, instances=2, routing="prefix-aware")


def some_trace() -> pl.DataFrame:
    """Forty requests under memory pressure: shared prefixes, tiers, turns that wait."""
    rng = np.random.default_rng(5)
    rows: list[dict[str, object]] = []
    for n in range(40):
        prompt = int(rng.integers(1, 200))
        rows.append(
            {
                "arrival_s": round(0.02 * n, 3),
                "tenant": "abc"[n % 3],
                "tier": str(rng.choice(["premium", "batch"])),
                "slo_ttft_s": 0.2 if n % 2 else None,
                "parent_id": n - 3 if n % 5 == 4 else None,
                "think_s": 0.1 if n % 5 == 4 else None,
                "prompt_tokens": prompt,
                "output_tokens": int(rng.integers(1, 60)),
                "prefix_blocks": [n % 3 * 100 + b if b < 4 else 1000 * n + b for b in range(prompt // 16)],
            }
        )
    return make_trace(rows)


def digest(spec: str) -> str:
    """Everything a replay of `some_trace` leaves, as text."""
    found = simulate(some_trace(), plugins.create("scheduler", spec), LIMITS, Affine(0.01, 0.0001, 0.0001, 1e-6))
    tables = [found.outcomes, found.timeline, found.events]
    return "\n".join([*(table.write_csv() for table in tables), str(found.summary)])


def placed() -> str:
    """Everything that four short bursts on two small GPUs leave, as text."""
    sharing = Sharing(memory_share=400 * 2**20 / 25_769_803_776, reserve_bytes=0)
    limits = EngineLimits(max_num_seqs=8, max_num_batched_tokens=64, max_model_len=2048, swap=True)
    models = tuple(Hosted(name, "llama-3.2-1b", weight_bytes=80 * 2**20) for name in "abc")
    cluster = Cluster((GPUs("l4", 2),), models, limits=limits, sharing=sharing)
    found = replay_on(cluster, several("abc", 60, 30.0), Chaotic(3, interval_s=0.2, arbitrates=True), EDF())
    return "\n".join(table.write_csv() for table in (found.outcomes, found.timeline, found.events))


def digests() -> dict[str, str]:
    return {**{spec: digest(spec) for spec in SPECS}, PLACED: placed()}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    """The digests from a process that compiles nothing."""
    code = "import json; from tests.laws.test_uncompiled import *; print(json.dumps(digests()))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("spec", SPECS)
def test_compiled_and_interpreted_agree_to_the_byte(spec, interpreted):
    assert interpreted[spec] == digest(spec)
    assert "preempt" in interpreted[spec] or spec not in DISPLACING


def test_a_cluster_compiled_and_interpreted_agrees_to_the_byte(interpreted):
    assert interpreted[PLACED] == placed()
    assert all(f",{kind}," in interpreted[PLACED] for kind in ("load", "evict", "migrate", "resize", "offload"))
