"""What can be worked out by hand: waits for loads, slowed steps, elastic and split memory, migrations, refusals."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from replay.cluster.hosting import Hosting
from replay.cluster.mapping import mapped
from replay.cluster.spec import Cluster, EngineLimits, GPUs, Hosted, Sharing
from replay.placements.static import Static
from replay.schedulers.edf import EDF
from replay.schedulers.fcfs import FCFS
from tests.replay.clusters import cluster_of, replay_on, several
from tests.replay.simulations import make_trace
from toolkit.errors import InputFailure, SettingFailure
from toolkit.placing import Action, Evict, Facts, Load, Migrate, Offload, Resize, View, Wait


@dataclass
class Scripted:
    """Loads what `first` says, does each of `then` at the tick when its time has come, and loads on demand on GPU 0."""

    first: tuple[Action, ...] = ()
    then: dict[float, Action] = field(default_factory=dict)
    on_demand: bool = False
    interval_s: float = 0.5
    arbitrates: bool = False
    elastic: bool = False

    def begin(self, facts: Facts) -> tuple[Action, ...]:
        self.facts = facts
        return self.first

    def decide(self, view: View) -> list[Action]:
        if view.why == "miss" and self.on_demand:
            return [Load(view.model, (0,))]
        due = [t for t in self.then if t <= view.now_s]
        return [self.then.pop(t) for t in due] if view.why == "tick" else []


def requests(*rows: tuple[float, str, int, int]) -> pl.DataFrame:
    names = ("arrival_s", "model", "prompt_tokens", "output_tokens")
    return make_trace([dict(zip(names, row, strict=True)) for row in rows])


def test_a_request_for_an_absent_model_waits_for_its_load() -> None:
    cluster, trace = cluster_of(["a"]), requests((1.0, "a", 100, 10))
    ended = replay_on(cluster, trace, Scripted(on_demand=True)).outcomes
    hosting = Hosting(cluster, trace)
    assert ended["start_s"][0] == pytest.approx(1.0 + hosting.load_s(0, "parallel"), abs=1e-9)


def test_an_event_tells_what_was_loaded_where_and_for_how_long() -> None:
    cluster, trace = cluster_of(["a"]), requests((1.0, "a", 100, 10))
    events = replay_on(cluster, trace, Scripted(on_demand=True)).events
    load = events.filter(pl.col("kind") == "load").row(0, named=True)
    hosting = Hosting(cluster, trace)
    assert (load["time_s"], load["gpu"], load["model"]) == (1.0, "0", "a")
    assert load["bytes"] == round(hosting.weight_bytes[0])
    assert load["duration_s"] == pytest.approx(hosting.load_s(0, "parallel"))


def test_two_loads_to_one_gpu_share_its_link() -> None:
    cluster, trace = cluster_of(["a", "b"]), requests((1.0, "a", 100, 10), (1.0, "b", 100, 10))
    ended = replay_on(cluster, trace, Scripted(on_demand=True)).outcomes
    load_s = Hosting(cluster, trace).load_s(0, "parallel")
    assert sorted(ended["start_s"]) == pytest.approx([1.0 + load_s, 1.0 + 2 * load_s], abs=1e-9)


@pytest.mark.parametrize("contention", [0.0, 0.5, 1.0])
def test_steps_beside_another_model_take_longer_by_the_contention(contention: float) -> None:
    cluster = cluster_of(["a", "b"], sharing=Sharing(contention=contention))
    alone = replay_on(cluster, requests((0.0, "a", 100, 200)), Static()).outcomes["finish_s"][0]
    both = replay_on(cluster, requests((0.0, "a", 100, 200), (0.0, "b", 100, 200)), Static()).outcomes["finish_s"]
    assert both.max() == pytest.approx(alone * (1 + contention), rel=0.01)


def test_models_on_different_gpus_do_not_slow_each_other() -> None:
    cluster = cluster_of(["a", "b"], gpus=2)
    alone = replay_on(cluster, requests((0.0, "a", 100, 200)), Static()).outcomes["finish_s"][0]
    both = replay_on(cluster, requests((0.0, "a", 100, 200), (0.0, "b", 100, 200)), Static()).outcomes["finish_s"]
    assert both.to_list() == [alone, alone]


def short_of_memory() -> tuple[Cluster, pl.DataFrame]:
    """Room for eight long requests on the GPU; eight come at once, all for one of its two models."""
    each = 131_072 * 1024
    share = (2 * 100e6 + 8.5 * each) / 85_899_345_920
    sharing = Sharing(memory_share=share, reserve_bytes=0)
    cluster = cluster_of(["a", "b"], weight_bytes=100e6, sharing=sharing)
    return cluster, requests(*[(0.0, "a", 900, 100)] * 8, (500.0, "b", 10, 10))


def test_an_elastic_pool_holds_what_a_split_one_cannot() -> None:
    cluster, trace = short_of_memory()
    split = replay_on(cluster, trace, Static())
    elastic = replay_on(cluster, trace, Scripted((Load(0, (0,)), Load(1, (0,)))))
    most = {name: r.timeline["running"].max() for name, r in (("split", split), ("elastic", elastic))}
    assert most == {"split": 4, "elastic": 8}
    assert elastic.outcomes["finish_s"].max() <= split.outcomes["finish_s"].max()


def test_a_smaller_cap_takes_places_and_loses_nothing() -> None:
    cluster, trace = short_of_memory()
    script = Scripted((Load(0, (0,)), Load(1, (0,))), {0.5: Resize(0, 2.5 * 131_072 * 1024)})
    result = replay_on(cluster, trace, script)
    assert result.outcomes["preemptions"].sum() >= 5
    assert result.outcomes["status"].to_list() == ["ok"] * 9
    after = result.timeline.filter((pl.col("time_s") > 0.6) & (pl.col("model") == "a"))
    assert after["kv_bytes"].max() <= 2.5 * 131_072 * 1024


def test_an_evicted_model_runs_again_once_it_is_back() -> None:
    cluster, trace = cluster_of(["a"]), requests((0.0, "a", 100, 400))
    hosting = Hosting(cluster, trace)
    calm = replay_on(cluster, trace, Scripted((Load(0, (0,)),))).outcomes
    script = Scripted((Load(0, (0,)),), {0.5: Evict(0), 3.0: Load(0, (0,))})
    result = replay_on(cluster, trace, script)
    ended = result.outcomes.row(0, named=True)
    assert (ended["status"], ended["preemptions"], ended["output_tokens"]) == ("ok", 1, 400)
    gone = 3.0 + hosting.load_s(0, "parallel") - 0.5
    assert ended["finish_s"] - calm["finish_s"][0] == pytest.approx(gone, abs=0.1)
    assert result.events["kind"].to_list().count("evict") == 1


def test_a_migrating_model_serves_until_its_target_is_ready() -> None:
    cluster = cluster_of(["a"], gpus=2)
    arrivals = [(float(t), "a", 50, 20) for t in np.arange(0, 3, 0.1)]
    script = Scripted((Load(0, (0,)),), {1.0: Migrate(0, (1,))})
    result = replay_on(cluster, requests(*arrivals), script)
    still = replay_on(cluster, requests(*arrivals), Scripted((Load(0, (0,)),)))
    ttft = result.outcomes["first_token_s"] - result.outcomes["arrival_s"]
    assert ttft.max() <= (still.outcomes["first_token_s"] - still.outcomes["arrival_s"]).max() + 0.02
    places = result.timeline.group_by("gpu").agg(
        pl.col("time_s").min().alias("from"), pl.col("time_s").max().alias("to")
    )
    where = {g: (a, b) for g, a, b in places.iter_rows()}
    assert where["0"][1] < 1.5 < where["1"][1]


def test_layers_on_the_host_slow_decoding_and_free_memory() -> None:
    cluster, trace = cluster_of(["a"]), requests((0.0, "a", 100, 100), (50.0, "a", 100, 100))
    result = replay_on(cluster, trace, Scripted((Load(0, (0,)),), {10.0: Offload(0, 0.5)}))
    e2e = (result.outcomes["finish_s"] - result.outcomes["arrival_s"]).to_list()
    assert e2e[1] > 3 * e2e[0]
    weights = result.timeline.sort("time_s")["resident_bytes"]
    assert weights[-1] == pytest.approx(weights[0] / 2, abs=1)


def test_arbitration_admits_the_urgent_of_another_model_first() -> None:
    limits = EngineLimits(max_num_seqs=1, max_num_batched_tokens=512)
    cluster = cluster_of(["a", "b"], limits=limits)
    rows = [
        {"arrival_s": 0.0, "model": "a", "prompt_tokens": 4000, "output_tokens": 1, "slo_ttft_s": 9.0},
        {"arrival_s": 0.0, "model": "b", "prompt_tokens": 4000, "output_tokens": 1, "slo_ttft_s": 0.1},
    ]
    both = (Load(0, (0,)), Load(1, (0,)))
    urgent = {
        arbitrates: replay_on(cluster, make_trace(rows), Scripted(both, arbitrates=arbitrates), EDF()).outcomes
        for arbitrates in (False, True)
    }
    ttft = {k: v["first_token_s"][1] for k, v in urgent.items()}
    assert ttft[True] < 0.7 * ttft[False]


def test_tensor_parallel_models_hold_pages_of_all_their_gpus() -> None:
    cluster = cluster_of(["a"], gpus=2, preset="llama-3.1-70b", tensor_parallel=2)
    result = replay_on(cluster, requests((0.0, "a", 500, 50)), Static())
    by_gpu = result.timeline.group_by("gpu").agg(pl.col("kv_bytes").max()).sort("gpu")
    assert by_gpu["gpu"].to_list() == ["0", "1"]
    assert by_gpu["kv_bytes"][0] == by_gpu["kv_bytes"][1] > 0


def test_a_model_over_gpus_of_two_types_is_as_slow_as_the_slower() -> None:
    hosted, trace = Hosted("a", "llama-3.1-70b", tensor_parallel=4), requests((0.0, "a", 500, 50))
    took = []
    for gpus in ((GPUs("h100", 4),), (GPUs("a100-80g", 4),), (GPUs("h100", 2), GPUs("a100-80g", 2))):
        ended = replay_on(Cluster(gpus, (hosted,)), trace, Static()).outcomes
        took.append(ended["finish_s"][0])
    assert took[0] < took[1] == took[2]


def test_what_no_placement_brings_is_rejected_with_the_reason() -> None:
    ended = replay_on(cluster_of(["a"]), requests((0.0, "a", 10, 10)), Scripted(interval_s=100.0)).outcomes
    assert ended["status"].to_list() == ["rejected"]
    assert ended["error"][0] == "the placement brought its model to no GPU"


def test_a_request_that_other_models_leave_no_room_for_is_rejected_with_the_arithmetic() -> None:
    sharing = Sharing(memory_share=0.01, reserve_bytes=0)
    cluster = cluster_of(["a", "b"], weight_bytes=300 * 2**20, sharing=sharing)
    trace = requests((0.0, "a", 2500, 10), (0.0, "b", 10, 10))
    ended = replay_on(cluster, trace, Scripted((Load(0, (0,)), Load(1, (0,))))).outcomes
    assert ended["status"].to_list() == ["rejected", "ok"]
    assert "KV blocks, more than other models' weights leave" in ended["error"][0]


@dataclass
class Patient(Scripted):
    """Lets requests that find no memory wait."""

    def decide(self, view: View) -> list[Action]:
        return [Wait()] if view.why == "memory" else super().decide(view)


@pytest.mark.parametrize(("script", "status"), [({5.0: Evict(1)}, "ok"), ({}, "rejected")])
def test_a_request_without_memory_waits_while_the_placement_says_so(script: dict[float, Action], status: str) -> None:
    sharing = Sharing(memory_share=0.01, reserve_bytes=0)
    cluster = cluster_of(["a", "b"], weight_bytes=300 * 2**20, sharing=sharing)
    patient = Patient((Load(0, (0,)), Load(1, (0,))), script)
    ended = replay_on(cluster, requests((0.0, "a", 2500, 10), (0.0, "b", 10, 10)), patient).outcomes
    assert ended["status"].to_list() == [status, "ok"]
    if status == "ok":
        assert ended["start_s"][0] == pytest.approx(5.0, abs=0.01)
    else:
        assert "more than other models' weights leave" in ended["error"][0]


def test_a_model_that_fits_nowhere_is_refused_before_the_run() -> None:
    cluster = Cluster((GPUs("l4", 2),), (Hosted("big", "llama-3.1-70b"),))
    with pytest.raises(SettingFailure, match=r"big: fits on no GPU: 131\.\d GiB of weights"):
        Hosting(cluster, requests((0.0, "big", 10, 10)))


def test_a_model_that_needs_more_gpus_than_there_are_is_refused() -> None:
    cluster = Cluster((GPUs("h100", 2),), (Hosted("wide", "llama-3.1-70b", tensor_parallel=4),))
    with pytest.raises(SettingFailure, match="needs 4 GPUs, the cluster has 2"):
        Hosting(cluster, requests((0.0, "wide", 10, 10)))


def test_a_request_for_a_model_nobody_serves_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputFailure, match="1 requests are for models that nobody serves, as 'llama'"):
        Hosting(cluster_of(["llama-8b"] * 1 + ["other"]), requests((0.0, "llama", 10, 10)))


def test_a_placement_that_loads_twice_is_told_so() -> None:
    with pytest.raises(SettingFailure, match="placement tested: loads what is there already, model a"):
        replay_on(cluster_of(["a"]), requests((0.0, "a", 10, 10)), Scripted((Load(0, (0,)), Load(0, (0,)))))


def test_a_placement_that_brings_weights_in_no_known_way_is_told_so() -> None:
    placement = Scripted()
    placement.loading = "paralel"  # type: ignore[attr-defined]
    with pytest.raises(SettingFailure, match=r"placement tested: loads by 'paralel'.*parallel"):
        replay_on(cluster_of(["a"]), requests((0.0, "a", 10, 10)), placement)


def test_a_placement_that_overfills_a_gpu_is_told_the_arithmetic() -> None:
    loads, trace = tuple(Load(m, (0,)) for m in range(5)), requests((0.0, "a", 10, 10))
    with pytest.raises(SettingFailure, match=r"puts 15\.0 GiB on GPU 0, where \d+\.\d GiB are free"):
        replay_on(cluster_of(list("abcde")), trace, Scripted(loads))


def test_replicas_share_a_models_requests_in_turn() -> None:
    trace = requests(*[(float(t), "a", 10, 5) for t in range(6)])
    hosting = Hosting(cluster_of(["a"], gpus=2, replicas=2), trace)
    assert hosting.model_of.tolist() == [0, 1, 0, 1, 0, 1]
    assert [r.name for r in hosting.replicas] == ["a#0", "a#1"]


def test_ranks_map_popular_models_with_shifts_and_count_what_is_left_out() -> None:
    rows = [(float(t), name, 10, 5) for t, name in enumerate(["x", "y", "x", "z", "x", "y"])]
    models = (
        Hosted("first", "llama-3.2-1b", rank=1),
        Hosted("again", "llama-3.2-1b", rank=1, shift_s=0.5),
        Hosted("second", "llama-3.2-1b", rank=2),
    )
    served, left = mapped(Cluster((GPUs("h100"),), models), requests(*rows))
    assert served["model"].to_list() == ["first", "again", "second", "first", "again", "first", "again", "second"]
    assert served["request_id"].to_list() == list(range(8))
    assert served["arrival_s"].to_list() == [0.0, 0.5, 1.0, 2.0, 2.5, 4.0, 4.5, 5.0]
    assert left == {"of models that no rank names": 1}


def test_scheduler_is_asked_once_for_all_models_of_a_gpu() -> None:
    asked: list[int] = []

    class Asked(FCFS):
        """Remembers how many it was asked about."""

        def order(self, waiting: object, now_s: float) -> np.ndarray:
            asked.append(len(waiting))  # type: ignore[arg-type]
            return np.arange(len(waiting))  # type: ignore[arg-type]

    limits = EngineLimits(max_num_seqs=1, max_num_batched_tokens=512)
    trace = requests(*[(0.0, name, 100, 20) for name in "abab"])
    both = (Load(0, (0,)), Load(1, (0,)))
    replay_on(cluster_of(["a", "b"], limits=limits), trace, Scripted(both, arbitrates=True), Asked())
    assert max(asked) >= 3


def test_a_load_that_comes_after_all_have_asked_in_vain_is_not_before_they_came() -> None:
    class Reluctant(Scripted):
        """Loads a model when it is asked for the second time."""

        asked = 0

        def decide(self, view: View) -> list[Action]:
            self.asked += 1
            return [Load(view.model, (0,))] if self.asked == 2 else []

    reluctant = Reluctant()
    reluctant.interval_s = 0.0  # it is asked at misses alone
    ended = replay_on(cluster_of(["a"]), requests((5.0, "a", 100, 10)), reluctant).outcomes
    assert ended["status"].to_list() == ["ok"]
    assert ended["start_s"][0] > 5.0


MAPPED_S, UNMAPPED_S = 230.5e-6, 26e-6  # a page of 2 MiB: a block of 16 tokens of the 8B model


def elastic(*requests_: tuple[float, str, int, int], models: str = "a", **given: object) -> dict[bool, pl.DataFrame]:
    """Outcomes by whether KV memory is mapped page by page."""
    cluster, trace = cluster_of(list(models), **given), requests(*requests_)  # type: ignore[arg-type]
    there = tuple(Load(m, (0,)) for m in range(len(models)))
    return {how: replay_on(cluster, trace, Scripted(there, elastic=how)).outcomes for how in (False, True)}


def test_a_prefill_waits_for_the_pages_that_no_thread_has_ready() -> None:
    ended = elastic((0.0, "a", 500, 100))
    more = ended[True]["first_token_s"][0] - ended[False]["first_token_s"][0]
    assert more == pytest.approx((32 - 10) * MAPPED_S, abs=1e-9)
    later = ended[True]["finish_s"][0] - ended[False]["finish_s"][0]
    assert later == pytest.approx(more, abs=1e-9), "a page every 16 steps is ready"


def test_pages_that_are_mapped_already_cost_nothing() -> None:
    ended = elastic((0.0, "a", 100, 100), sharing=Sharing(ready_pages=7))
    assert ended[True]["finish_s"].to_list() == ended[False]["finish_s"].to_list()


def test_what_an_engine_frees_it_unmaps_after_the_step() -> None:
    limits = EngineLimits(max_num_seqs=1, max_num_batched_tokens=512, prefix_caching=False)
    ended = elastic((0.0, "a", 160, 2), (0.0, "a", 16, 2), limits=limits)
    more = ended[True]["start_s"][1] - ended[False]["start_s"][1]
    assert more == pytest.approx(11 * UNMAPPED_S, abs=1e-9), "it maps no more than 10 a step, which were ready"


def test_a_page_under_the_cache_of_another_model_is_unmapped_first() -> None:
    share = (2 * 100e6 + 30.5 * 2**21) / 85_899_345_920
    tight = {"weight_bytes": 100e6, "sharing": Sharing(memory_share=share, reserve_bytes=0)}
    ended = elastic((0.0, "a", 320, 1), (9.0, "b", 320, 1), models="ab", **tight)
    more = (ended[True]["finish_s"] - ended[False]["finish_s"]).to_list()
    assert more == pytest.approx([10 * MAPPED_S, 10 * MAPPED_S + 10 * UNMAPPED_S], abs=1e-9)


def test_pages_that_take_no_time_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "zero.yaml").write_text("like: h100-sxm\nmap_s_per_page: 0\nunmap_s_per_page: 0\n")
    cluster = replace(cluster_of(["a", "b"], weight_bytes=30 * 2**30), machine=str(tmp_path / "zero.yaml"))
    trace, both = several(["a", "b"], 200, 40.0), (Load(0, (0,)), Load(1, (0,)))
    mapped_, whole = (replay_on(cluster, trace, Scripted(both, elastic=how)).outcomes for how in (True, False))
    assert mapped_.equals(whole)
