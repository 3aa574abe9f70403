"""What each placement decides in small situations that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from replay.placements.cost_aware import CostAware
from replay.placements.foresight import Foresight
from replay.placements.kvpr import rebalanced
from replay.placements.lru import LRU
from replay.placements.muxserve import MuxServe, divided
from replay.placements.plan import Plan, make_room, relieve
from replay.placements.prism import Prism
from replay.placements.prism_code import PrismCode
from replay.placements.qlm import QLM
from replay.placements.rates import Window
from replay.placements.serverlessllm import ServerlessLLM
from replay.placements.spread import spread
from replay.placements.static import Static
from tests.replay.placements.asked_clusters import GIB, asked, facts_of, view_of
from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.placing import LOADING, READY, Evict, Load, Migrate, Offload, Resize, Wait


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("prism:idle_s=-1", "prism:idle_s: -1 is below 0"),
        ("prism-code:cycle_s=0", "prism-code:cycle_s: 0 is not above 0"),
        ("lru:hold_s=-3", "lru:hold_s: -3 is below 0"),
        ("qlm:group=0", "qlm:group: 0 is not above 0"),
        ("serverlessllm:keep_s=-1", "serverlessllm:keep_s: -1 is below 0"),
        ("cost-aware:short_s=0", "cost-aware:short_s: 0 is not above 0"),
        ("foresight:horizon_s=0", "foresight:horizon_s: 0 is not above 0"),
        ("oracle:of=tpt", "oracle:of: 'tpt' is nothing to be best at; did you mean 'tpot'?"),
        ("muxserve++:headroom=-1", "muxserve++:headroom: -1 is not above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(spec: str, said: str) -> None:
    with pytest.raises(SettingFailure) as refused:
        plugins.create("placement", spec)
    assert said in str(refused.value)


def test_a_window_forgets() -> None:
    window = Window(10.0)
    window.rate(0.0, np.array([0]))
    assert window.rate(10.0, np.array([50]))[0] == pytest.approx(5.0)
    window.rate(20.0, np.array([50]))
    assert window.rate(30.0, np.array([50]))[0] == 0.0


def test_room_is_made_by_as_few_as_it_takes() -> None:
    facts = facts_of([10, 10, 10, 30], gpus=2)
    plan = Plan(facts, view_of(facts, {0: (0,), 1: (1,), 2: (0,)}))
    assert make_room(plan, 3, [0, 1, 2], np.zeros(2)) == (1,)
    assert plan.actions == [Evict(1)]


def test_room_that_cannot_be_made_evicts_nobody() -> None:
    facts = facts_of([10, 10, 39], gpus=1)
    plan = Plan(facts, view_of(facts, {0: (0,), 1: (0,)}))
    assert make_room(plan, 2, [0, 1], np.zeros(1)) is None
    assert plan.actions == []


def test_a_gpu_keeps_room_for_the_longest_request() -> None:
    facts = facts_of([10, 20], gpus=1, least_kv_bytes=np.array([15 * GIB, 0.0]))
    plan = Plan(facts, view_of(facts, {0: (0,)}))
    assert not plan.fits(1).any()
    assert Plan(facts, view_of(facts, {0: (0,)}), but_long=True).fits(1).all()


def test_parts_of_a_model_share_a_host() -> None:
    facts = facts_of([10], gpus=4, host=np.array([0, 1, 1, 0]))
    facts = replace(facts, width=np.array([2]))
    assert Plan(facts).choose(0, np.array([0.0, 2.0, 3.0, 9.0])) == (1, 2)


def test_static_balances_rates() -> None:
    facts = facts_of([1, 1, 1, 1], tokens_per_s=np.array([8.0, 4.0, 3.0, 2.0]))
    places = spread(facts, facts.tokens_per_s)
    assert places[0] == places[3] != places[1] == places[2]


def test_static_packs_what_only_fits_tightly() -> None:
    facts = facts_of([12, 12, 37], tokens_per_s=np.array([9.0, 9.0, 1.0]))
    loads = Static().begin(facts)
    assert {a.model: a.gpus for a in loads if isinstance(a, Load)} == {0: (1,), 1: (1,), 2: (0,)}


def test_static_refuses_with_the_arithmetic() -> None:
    with pytest.raises(SettingFailure, match=r"90.0 GiB of weights, GPUs take 76.0 GiB"):
        Static().begin(facts_of([30, 30, 30]))


def test_shares_by_rate_hold_the_longest_request() -> None:
    facts = facts_of([10, 10], gpus=1, tokens_per_s=np.array([99.0, 0.0]), least_kv_bytes=np.full(2, 2 * GIB))
    first, second = sorted(Static("rate").begin(facts), key=lambda load: load.model)
    assert isinstance(first, Load) and isinstance(second, Load)  # noqa: PT018
    assert first.kv_bytes > 15 * GIB
    assert 2 * GIB < second.kv_bytes < 3 * GIB


def test_quotas_are_fair_by_rate() -> None:
    share = np.array([1.0, 1.0, 2.0])
    assert divided(12.0, np.array([1.0, 9.0, 9.0]), share).tolist() == pytest.approx([1.0, 11 / 3, 22 / 3])
    assert divided(12.0, np.array([1.0, 1.0, 2.0]), share).sum() == pytest.approx(12.0)


def test_muxserve_moves_quotas_to_use() -> None:
    facts = facts_of([10, 10], gpus=1, requests_per_s=np.ones(2), tokens_per_s=np.full(2, 1000.0))
    placement = MuxServe()
    before = {a.model: a.kv_bytes for a in placement.begin(facts) if isinstance(a, Load)}
    view = view_of(facts, {0: (0,), 1: (0,)}, running=np.array([150, 0]))
    after = {a.model: a.kv_bytes for a in placement.decide(view) if isinstance(a, Resize)}
    assert after[0] > before[0] == before[1] > after[1]


def test_lru_takes_the_idle_before_the_busy() -> None:
    facts = facts_of([30, 30, 30])
    placement = LRU()
    placement.begin(facts)
    view = view_of(facts, {0: (0,), 1: (1,)}, **asked(3, {2: 1}), last_active_s=np.array([90.0, 95.0, 99.0]))
    assert placement.decide(replace(view, running=np.array([1, 0, 0])))[0] == Evict(1)
    assert placement.decide(view) == [Evict(0), Load(2, (0,))]


def test_lru_lets_a_busy_model_have_its_turn() -> None:
    facts = facts_of([30, 30], gpus=1)
    placement = LRU(hold_s=5.0)
    placement.begin(facts)
    busy = {"running": np.array([1, 0]), "ready_s": np.array([98.0, np.nan])}
    view = view_of(facts, {0: (0,)}, **asked(2, {1: 1}), **busy)
    assert placement.decide(view) == []
    later = replace(view, now_s=104.0, output_tokens=np.array([3, 0]))
    assert placement.decide(later) == [Evict(0), Load(1, (0,))]


def test_prism_waits_for_idle_models() -> None:
    facts = facts_of([30, 30, 30])
    placement = Prism(idle_s=45.0)
    placement.begin(facts)
    view = view_of(facts, {0: (0,), 1: (1,)}, **asked(3, {2: 1}), last_active_s=np.array([60.0, 70.0, 99.0]))
    assert placement.decide(view) == []
    assert placement.decide(replace(view, now_s=106.0)) == [Evict(0), Load(2, (0,))]


def test_algorithm_1_by_hand() -> None:
    facts = facts_of([10, 10, 10], gpus=2)
    plan = Plan(facts, view_of(facts, {0: (0,), 1: (0,), 2: (0,)}))
    demand = np.array([30.0, 20.0, 10.0]) * GIB
    # 30/30 GiB on GPU 0 after the first; the second finds 1 there and 0 on GPU 1; the third finds 1 and 2/3
    assert rebalanced(plan, demand, tau=0.5, after=False) == {1: (1,)}
    assert rebalanced(plan, demand, tau=0.1, after=False) == {1: (1,), 2: (1,)}
    assert rebalanced(plan, demand, tau=3.0, after=False) == {}


def test_the_prototype_moves_the_model_with_fewest_requests() -> None:
    facts = facts_of([10, 10, 10], gpus=2)
    placement = PrismCode(ratio=3.0)
    placement.begin(facts)
    view = view_of(facts, {0: (0,), 1: (0,), 2: (1,)}, running=np.array([8, 2, 1]), last_active_s=np.full(3, 100.0))
    assert placement.decide(view) == [Migrate(1, (1,))]
    assert placement.decide(replace(view, why="miss")) == []


def test_the_prototype_leaves_a_gpu_without_requests_alone_that_has_not_enough_more() -> None:
    facts = facts_of([10, 10, 10], gpus=2)
    view = view_of(facts, {0: (0,), 1: (0,), 2: (1,)}, running=np.array([2, 1, 0]), last_active_s=np.full(3, 100.0))
    for ratio, answer in ((5.0, []), (4.0, [Migrate(1, (1,))])):  # 20 GiB for 3 requests, and 30 for none
        placement = PrismCode(ratio=ratio)
        placement.begin(facts)
        assert placement.decide(view) == answer


def test_qlm_swaps_by_deadline() -> None:
    facts = facts_of([30, 30], gpus=1, decode_s_per_token=np.full(2, 0.01), tokens_per_s=np.full(2, 100.0))
    facts = replace(facts, requests_per_s=np.ones(2), slo_ttft_s=np.array([60.0, 1.0]))
    placement = QLM()
    placement.begin(facts)
    running = view_of(facts, {0: (0,)}, running=np.array([9, 0]), arrived=np.array([9, 1]))
    placement.decide(running)
    waits = replace(running, **asked(2, {1: 1}))
    assert placement.decide(waits) == [Evict(0), Load(1, (0,))]
    placement.objective_s[1] = 600.0
    assert placement.decide(waits) == []


def test_serverlessllm_keeps_gpus_to_one_model() -> None:
    facts = facts_of([10, 10, 10], gpus=1)
    placement = ServerlessLLM(keep_s=10.0)
    placement.begin(facts)
    view = view_of(facts, {0: (0,)}, **asked(3, {1: 1}), last_active_s=np.array([95.0, 0.0, 0.0]))
    assert placement.decide(view) == []
    assert placement.decide(replace(view, now_s=106.0)) == [Evict(0), Load(1, (0,))]


def test_foresight_evicts_the_farthest_and_loads_before_the_next() -> None:
    future = (np.array([500.0]), np.array([100.4]), np.array([100.9]), np.array([600.0]))
    facts = facts_of([30, 30, 30, 30], gpus=2, future=future)
    placement = Foresight()
    placement.begin(facts)
    view = view_of(facts, {0: (0,), 1: (1,)})
    assert placement.decide(view) == [Evict(0), Load(2, (0,))]


def test_foresight_moves_who_will_be_asked_together_with_a_neighbour() -> None:
    together = np.arange(100.2, 130.0, 0.5)
    facts = facts_of([5, 5, 5], gpus=2, future=(together, together, np.array([700.0])))
    placement = Foresight()
    placement.begin(facts)
    busy = {"running": np.array([1, 1, 0]), "arrived": np.array([0, 0, 0])}
    assert placement.decide(view_of(facts, {0: (0,), 1: (0,), 2: (1,)}, **busy)) == [Migrate(0, (1,))]
    assert placement.decide(view_of(facts, {0: (0,), 1: (1,), 2: (1,)}, **busy)) == []


def test_foresight_takes_off_a_busy_model_for_whom_it_costs_less() -> None:
    future = (np.array([99.0, 101.0]), np.array([99.0]))
    facts = facts_of([30, 30], gpus=1, future=future)
    busy = {"running": np.array([4, 0]), "arrived": np.array([1, 1]), "output_tokens": np.array([900, 0])}
    for since_s, answer in ((99.5, []), (60.0, [Evict(0), Load(1, (0,))])):
        placement = Foresight()
        placement.begin(facts)
        placement.decide(view_of(facts, {0: (0,)}, now_s=50.0))
        assert placement.decide(view_of(facts, {0: (0,)}, **asked(2, {1: 1}, since_s), **busy)) == answer


def test_who_finds_no_memory_waits_for_what_is_on_its_way() -> None:
    facts = facts_of([10, 10], gpus=1)
    view = view_of(facts, {0: (0,), 1: (0,)}, why="memory", model=0, waiting=np.array([1, 0]))
    for state, answer in ((READY, [Evict(1)]), (LOADING, [Wait()])):
        plan = Plan(facts, replace(view, state=np.array([READY, state])))
        relieve(plan, view)
        assert plan.actions == answer


def test_costs_let_an_idle_model_go_and_a_busy_one_stay_for_a_while() -> None:
    facts = facts_of([30, 30], gpus=1)
    placement = CostAware(park=False)
    placement.begin(facts)
    busy = {"running": np.array([4, 0]), "arrived": np.array([40, 1]), "output_tokens": np.array([900, 0])}
    view = view_of(facts, {0: (0,)}, **asked(2, {1: 1}), **busy, last_active_s=np.array([100.0, 100.0]))
    assert placement.decide(view) == []
    assert placement.decide(replace(view, now_s=160.0)) == [Evict(0), Load(1, (0,))]
    quiet = replace(view, running=np.zeros(2, int), last_active_s=np.array([1.0, 100.0]))
    assert placement.decide(quiet) == [Evict(0), Load(1, (0,))]


def test_costs_park_where_loads_are_slow() -> None:
    facts = facts_of([30, 30], gpus=1, load_s=np.full((2, 1), 7.0), restore_s=np.full(2, 1.0))
    placement = CostAware()
    loads = placement.begin(facts)
    assert [a.resident for a in loads if isinstance(a, Load)] == [1.0, 0.0]
    view = view_of(facts, {0: (0,), 1: (0,)}, **asked(2, {1: 1}), resident=np.array([1.0, 0.0]))
    view = replace(view, weight_bytes=np.array([30 * GIB]), free_bytes=np.array([10 * GIB]))
    assert placement.decide(view) == [Offload(0, 0.0), Offload(1, 1.0)]
    assert placement.decide(replace(view, now_s=100.5)) == []
