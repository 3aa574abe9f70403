"""Several models on one device: weights come and go, and change nothing but who can run."""

from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not here: make test-transformers")
pytest.importorskip("transformers", reason="transformers is not here: make test-transformers")

from replay.placements.lru import LRU  # noqa: E402
from replay.placements.prism import Prism  # noqa: E402
from replay.planning.jobs import Job  # noqa: E402
from replay.torch_engine.arena import Arena  # noqa: E402
from replay.torch_engine.costs import measured  # noqa: E402
from replay.torch_engine.device import Device  # noqa: E402
from replay.torch_engine.house import House  # noqa: E402
from replay.torch_engine.limits import Limits  # noqa: E402
from replay.torch_engine.model import build  # noqa: E402
from replay.torch_engine.placed import facts_of  # noqa: E402
from tests.replay.torch_engine.tiny import CONFIG, PAGE, ROOM, Script, model, served, several  # noqa: E402
from toolkit.errors import SettingFailure  # noqa: E402
from toolkit.placing import ABSENT, Action, Evict, Load, Migrate, Offload, Placement, Resize, View  # noqa: E402

MODELS = 3


def house_of(room: int = ROOM, **limits: object) -> House:
    """A house with memory for two of three models, and `room` bytes."""
    memory = 2 * -(-model().size // PAGE) * PAGE + room
    models = [model(seed) for seed in range(MODELS)]
    few = Limits(**{"max_num_seqs": 8, "max_num_batched_tokens": 64, **limits})  # type: ignore[arg-type]
    return House(Device.of("cpu"), models, few, memory, page_bytes=PAGE, keep_tokens=True, least_kv_share=0)


def run(house: House, placement: Placement, jobs: list[Job]) -> list[list[int]]:
    costs = measured(house, 30, 40.0)
    nothing = np.full(MODELS, np.nan)
    house.place(placement, facts_of(house, jobs, costs, nothing, nothing))
    try:
        assert house.run(jobs)
    finally:
        house.hosting.settle()
        house.hosting.apply([Evict(m) for m in np.flatnonzero(house.hosting.state != ABSENT).tolist()])
    assert house.arena.free == house.arena.pages
    return [job.tokens[job.prompt :].tolist() for job in jobs]


def of_model(m: int, count: int = 4) -> list[Job]:
    return [Job(n, 12 + n, 40, 0.0, model=m) for n in range(count)]


@pytest.mark.parametrize("swap", [False, True])
def test_tokens_survive_that_their_model_is_evicted_and_comes_back(swap: bool) -> None:
    undisturbed = served(of_model(0)).tokens
    house = house_of(swap=swap)
    script = Script([Load(1, (0,)), Load(0, (0,))], [[Evict(1)], [Evict(0)], [Load(2, (0,)), Load(0, (0,))]])
    assert run(house, script, of_model(0)) == undisturbed
    assert [e["kind"] for e in house.notes.events if e["model"] == "tiny-0"].count("load") == 2
    assert any(view.why == "loaded" for view in script.views)


def test_kv_pages_that_stand_in_the_way_move_and_keep_what_they_hold() -> None:
    house = house_of(room=0)
    kv, tiny = house.engines[0].kv, house.models[1]
    blocks = kv.take(kv.free)
    host = torch.randn(kv.out(blocks).shape)
    kv.back(host, blocks)
    high, low = blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]  # pages are taken from the top
    kv.give(high)
    tiny.bring(house.arena).result()
    tiny.point()
    assert torch.equal(kv.out(low), host[len(blocks) // 2 :])
    kv.give(low)
    tiny.leave()
    assert house.arena.free == house.arena.pages


def test_a_long_context_goes_to_the_host_and_back_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    kv = house_of().engines[0].kv
    blocks = kv.take(10)
    first, second = torch.randn(kv.out(blocks).shape), torch.randn(kv.out(blocks).shape)
    kv.back(first, blocks)
    with monkeypatch.context() as few:
        few.setattr("replay.torch_engine.kv.AT_ONCE", 4 * kv.block_bytes)
        assert torch.equal(kv.out(blocks), first)
        kv.back(second, blocks)
    assert torch.equal(kv.out(blocks), second)


def test_weights_slide_together_when_others_go() -> None:
    house = house_of(room=2 * ROOM)
    house.start([Load(m, (0,)) for m in range(MODELS)])
    house.hosting.apply([Evict(0)])
    for tiny in house.models[1:]:
        fresh = build("fresh", CONFIG, house.device, seed=int(tiny.name[-1]))
        fresh.bring(arena := Arena(house.device, 1 << 20, PAGE)).result()
        fresh.point()
        assert all(torch.equal(a, b) for a, b in zip(tiny.module.parameters(), fresh.module.parameters(), strict=True))
        assert arena.top == fresh.pages
    assert [tiny.first for tiny in house.models[1:]] == [0, house.models[1].pages]
    house.hosting.apply([Evict(1), Evict(2)])


def test_memory_is_never_more_than_there_is() -> None:
    house = house_of(room=6 * PAGE, max_num_seqs=16)
    look, jobs = Watching(house), several(15, models=MODELS)
    run(house, look.on(LRU(hold_s=0.01, cycle_s=0.02, start="empty", least_kv_share=0.0)), jobs)
    assert {job.status for job in jobs} == {"ok"}
    assert look.most_pages <= house.arena.pages
    assert house.hosting.loads > MODELS


class Watching:
    """Counts pages whenever the placement is asked."""

    def __init__(self, house: House):
        self.house, self.most_pages = house, 0

    def on(self, placement: Placement) -> Placement:
        decide = placement.decide

        def watched(view):  # type: ignore[no-untyped-def]
            kv = sum(e.kv.pages for e in self.house.engines)
            weights = sum(self.house.hosting.weight_pages(m) for m in np.flatnonzero(view.state != ABSENT))
            assert self.house.arena.free + kv + weights == self.house.arena.pages
            self.most_pages = max(self.most_pages, kv + weights)
            return decide(view)

        placement.decide = watched  # type: ignore[method-assign]
        return placement


@pytest.mark.parametrize("name", ["lru", "prism"])
def test_every_request_is_served_by_placements_that_load_on_demand(name: str) -> None:
    placement = (
        LRU(0.01, 0.02, least_kv_share=0) if name == "lru" else Prism(idle_s=0.01, cycle_s=0.02, least_kv_share=0)
    )
    house, jobs = house_of(), several(15, at_once=False, models=MODELS)
    tokens = run(house, placement, jobs)
    for m in range(MODELS):
        mine = [job for job in jobs if job.model == m]
        assert [t for t, job in zip(tokens, jobs, strict=True) if job.model == m] == alone_tokens(m, mine)
    assert {e["kind"] for e in house.notes.events} >= {"load", "evict"}


def alone_tokens(m: int, jobs: list[Job]) -> list[list[int]]:
    house = house_of()
    again = [Job(job.number, job.prompt, job.output, 0.0, model=m) for job in jobs]
    return run(house, Script([Load(m, (0,))]), again)


def test_a_model_that_nobody_loads_is_given_up() -> None:
    jobs = [*of_model(0, 2), Job(9, 5, 5, 0.0, model=1)]
    run(house_of(), Script([Load(0, (0,))], interval_s=None), jobs)
    assert [job.status for job in jobs] == ["ok", "ok", "rejected"]
    assert jobs[2].error == "the placement brought its model to no GPU"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (Offload(0, 0.5), "says offload, which --engine transformers does not do, of model tiny-0"),
        (Migrate(0, (1,)), "says migrate, which --engine transformers does not do, of model tiny-0"),
        (Load(0, (0,), 0.5), "keeps layers on the host, which --engine transformers does not do, of model tiny-0"),
        (Evict(0), "evicts what is not ready, model tiny-0"),
    ],
)
def test_what_one_device_cannot_do_is_refused(action: Action, said: str) -> None:
    with pytest.raises(SettingFailure, match=said):
        house_of().start([action])


def test_weights_that_do_not_fit_are_refused_with_the_arithmetic() -> None:
    house = house_of(room=PAGE)
    with pytest.raises(SettingFailure, match=r"puts 0\.00 GiB where 0\.00 GiB are free, model tiny-2; give more"):
        house.start([Load(0, (0,)), Load(1, (0,)), Load(2, (0,))])
    house.hosting.settle()
    house.hosting.apply([Evict(0), Evict(1)])


class Capping(Script):
    """Caps a model's KV memory once it has more."""

    def decide(self, view: View) -> Sequence[Action]:
        if view.kv_bytes[0] <= PAGE or self.views:
            return ()
        self.views.append(view)
        return [Resize(0, float(PAGE))]


def test_a_cap_on_kv_memory_takes_places() -> None:
    house, jobs = house_of(), of_model(0, 8)
    assert run(house, Capping([Load(0, (0,))], interval_s=1e-6), jobs) == served(of_model(0, 8)).tokens
    resized = next(e["time_s"] for e in house.notes.events if e["kind"] == "resize")
    assert max(step.kv_bytes for step in house.notes.steps if step.time_s > resized) <= PAGE
    assert max(step.kv_bytes for step in house.notes.steps) > PAGE
