"""More places than there is memory for."""

from dataclasses import replace

import polars as pl
import pytest

from replay.cluster.hosting import Hosting
from replay.cluster.spec import EngineLimits
from replay.schedulers.fcfs import FCFS
from replay.simulation.setup import Limits, bounded
from tests.replay.clusters import cluster_of, several
from tests.replay.simulations import Affine, make_trace, simulate


@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_more_places_than_blocks_change_nothing(blocks: int) -> None:
    short = {"arrival_s": 0.0, "prompt_tokens": 3, "output_tokens": 4}
    trace = make_trace(pl.DataFrame([short] * 30))
    many = Limits(kv_blocks=blocks, max_num_seqs=2_000, max_num_batched_tokens=4_000, max_model_len=64)
    few = bounded(many)
    assert few.max_num_seqs == blocks + 1
    results = [simulate(trace, FCFS(), limits, Affine()) for limits in (many, few)]
    assert results[0].outcomes.equals(results[1].outcomes)
    assert results[0].outcomes["start_s"].n_unique() > 1
    assert bounded(replace(many, max_num_seqs=1)).max_num_seqs == 1


def test_a_cluster_has_tables_of_what_fits_its_memory() -> None:
    limits = EngineLimits(max_num_seqs=1_000_000, max_num_batched_tokens=1_000_000, max_model_len=2048)
    cluster = cluster_of(["a", "b"], limits=limits, weight_bytes=65 * 2**30)
    hosting = Hosting(cluster, several(["a", "b"], 10, 1.0))
    most = max(each.kv_blocks for each in hosting.limits) + 1
    assert {each.max_num_seqs for each in hosting.limits} == {most}
    assert len(hosting.latency(0, ("h100",)).kv_edges) == most + 1
