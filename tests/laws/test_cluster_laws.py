"""The laws of DESIGN.md section 6, for clusters: whatever a placement does, nothing is lost and memory is conserved."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.cluster.pages import pages_of
from replay.cluster.spec import Cluster, EngineLimits, GPUs, Hosted, Sharing
from replay.latency_models.choosing import served_by
from replay.placements.static import Static
from replay.schedulers.edf import EDF
from replay.schedulers.fcfs import FCFS
from replay.schedulers.las import LAS
from replay.schedulers.moore_hodgson import MooreHodgson
from replay.schedulers.srpt import SRPT
from replay.simulation.hardware import gpu_preset, kv_blocks, model_preset
from replay.simulation.setup import Limits
from tests.replay.clusters import Chaotic, Outcome, cluster_of, replay_on, several
from tests.replay.simulations import make_trace, simulate
from toolkit import plugins
from toolkit.placing import Placement

SCHEDULERS = {"fcfs": FCFS, "edf": EDF, "srpt": SRPT, "las": LAS, "moore-hodgson": MooreHodgson}
PRESETS = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
MB = 2**20


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Up to four models on up to three GPUs whose memory is short: weights of tens of MB, KV of some hundred blocks."""
    gpus = draw(st.integers(1, 3))
    models = []
    for m in range(draw(st.integers(1, 4))):
        width = draw(st.integers(1, min(2, gpus)))
        weights = draw(st.sampled_from((40, 100, 160))) * MB * width
        models.append(Hosted(f"m{m}", draw(st.sampled_from(PRESETS)), tensor_parallel=width, weight_bytes=weights))
    room = draw(st.sampled_from((340, 500, 900))) * MB / gpu_preset("l4").memory_bytes
    sharing = Sharing(memory_share=room, reserve_bytes=0, contention=draw(st.sampled_from((0.0, 0.5, 1.0))))
    limits = EngineLimits(
        max_num_seqs=draw(st.sampled_from((2, 8))),
        max_num_batched_tokens=draw(st.sampled_from((16, 128))),
        max_model_len=2048,
        prefix_caching=draw(st.booleans()),
        swap=draw(st.booleans()),
    )
    return Cluster((GPUs("l4", gpus),), tuple(models), limits=limits, sharing=sharing)


@st.composite
def traces(draw: st.DrawFn, models: int) -> pl.DataFrame:
    """Bursts of requests with prefixes in common, and sessions whose turns wait for each other."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    parent = np.where(rng.random(n) < draw(st.sampled_from((0.0, 0.3))), np.arange(n) - 1, -1)
    rows = [
        {
            "arrival_s": float(t),
            "model": f"m{rng.integers(models)}",
            "prompt_tokens": int(rng.integers(1, 200)),
            "output_tokens": int(rng.integers(1, 60)),
            "prefix_blocks": [int(b) for b in range(rng.integers(0, 5))],
            "slo_ttft_s": 0.5,
            "parent_id": int(p) if p >= 0 else None,
            "think_s": 0.1 if p >= 0 else None,
        }
        for t, p in zip(np.cumsum(rng.exponential(draw(st.sampled_from((0.002, 0.2))), n)), parent, strict=True)
    ]
    return make_trace(rows)


def check(result: Outcome, trace: pl.DataFrame) -> None:
    """Every request has one outcome, nothing runs before it may, tokens are as asked, and no memory is left over."""
    ended = result.outcomes
    assert ended["request_id"].to_list() == trace["request_id"].to_list()
    ok = ended.filter(pl.col("status") == "ok")
    assert (ok["start_s"] >= ok["arrival_s"]).all()
    assert (ok["first_token_s"] > ok["start_s"]).all()
    assert (ok["finish_s"] >= ok["first_token_s"]).all()
    asked = trace.filter(pl.Series(ended["status"] == "ok"))
    assert ok["output_tokens"].to_list() == asked["output_tokens"].to_list()
    check_pages(result)
    assert (result.driver.controller.pool.engines["held"] == 0).all()


def check_pages(result: Outcome) -> None:
    """Pages are conserved to the byte: those that engines hold, those that are free, those under weights."""
    c = result.driver.controller
    size = c.hosting.cluster.sharing.page_bytes
    assert (c.weights <= c.hosting.memory_bytes).all()
    assert (c.pool.gpus["free"] >= 0).all()
    held = np.zeros(len(c.weights), np.int64)
    for e in range(len(c.pool.engines)):
        it = c.pool.engines[e]
        assert it.pages == pages_of.py_func(c.pool, e, int(it.held + it.cached))
        assert it.pages <= it.limit
        for g in c.gpus_of(e):
            held[g] += it.pages
    assert ((c.hosting.memory_bytes - c.weights) // size == held + c.pool.gpus["free"]).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_placement_does_nothing_is_lost(data: st.DataObject) -> None:
    cluster = data.draw(clusters())
    trace = data.draw(traces(len(cluster.models)))
    name, seed = data.draw(st.sampled_from(sorted(SCHEDULERS))), data.draw(st.integers(0, 2**16))
    arbitrates = data.draw(st.booleans())
    results = [
        replay_on(cluster, trace, Chaotic(seed, arbitrates=arbitrates), SCHEDULERS[name](), jump=jump, block_tokens=16)
        for jump in (True, False)
    ]
    check(results[0], trace)
    columns = [c for c in results[0].outcomes.columns if c != "run_id"]
    assert results[0].outcomes.select(columns).equals(results[1].outcomes.select(columns)), "jumped is not stepped"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from((2.0, 20.0, 80.0)), st.sampled_from(sorted(SCHEDULERS)))
def test_one_model_on_one_gpu_is_the_single_engine(seed: int, rate: float, name: str) -> None:
    cluster = cluster_of(["m"], limits=EngineLimits(max_num_seqs=64, max_num_batched_tokens=512))
    trace = several(["m"], 150, rate, seed)
    blocks = kv_blocks(gpu_preset("h100"), model_preset("llama-3.1-8b"), 16)
    limits = Limits(blocks, max_num_seqs=64, max_num_batched_tokens=512)
    single = simulate(trace, SCHEDULERS[name](), limits, served_by("roofline", "h100", "llama-3.1-8b", 1))
    assert replay_on(cluster, trace, Static(), SCHEDULERS[name]()).outcomes.equals(single.outcomes)


class Restless:
    """A placement that never says how long its ticks can be left out."""

    def __init__(self, inside: Placement):
        self.inside = inside

    def __getattr__(self, name: str) -> Any:
        if name == "rests":
            raise AttributeError(name)
        return getattr(self.inside, name)


@pytest.mark.parametrize("name", ["serverlessllm", "qlm", "lru", "muxserve++", "prism", "cost-aware", "foresight"])
def test_ticks_that_are_left_out_change_nothing(name: str) -> None:
    cluster = cluster_of(list("abc"), gpus=2 if name == "muxserve++" else 1, weight_bytes=30 * 2**30)
    trace = several(list("abc"), 30, 0.1, seed=3)
    spec = f"{name}:window_s=5,cycle_s=1" if name == "prism" else name
    results = [
        replay_on(cluster, trace, wrapped(plugins.create("placement", spec)))
        for wrapped in (lambda placement: placement, Restless)
    ]
    left, asked = results
    assert left.outcomes.equals(asked.outcomes)
    assert left.events.equals(asked.events)
    assert left.driver.decisions < asked.driver.decisions
