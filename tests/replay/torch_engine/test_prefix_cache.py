"""The prefix cache of the in-process engine: it saves work, and changes no token."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not here: make test-transformers")
pytest.importorskip("transformers", reason="transformers is not here: make test-transformers")

from replay.planning.jobs import Job
from replay.torch_engine.device import Device
from replay.torch_engine.house import House
from replay.torch_engine.limits import Limits
from replay.torch_engine.prompts import asked
from tests.replay.http.test_replaying import trace_file
from tests.replay.torch_engine.tiny import PAGE, Script, model
from toolkit.cli import main
from toolkit.placing import ABSENT, Action, Evict, Load, View
from toolkit.runs import Run

BLOCK = 32  # tokens in a block of the trace; the engine's hold 16


def alike(count: int = 10) -> list[Job]:
    """Requests of two groups, each with a beginning of its own; the second half comes when the first has begun."""
    return [
        Job(n, 75 + n, 25, 0.0 if n < count // 2 else 0.01, prefix=(n % 2, 7 + n % 2), rank=float(n))
        for n in range(count)
    ]


def conversation() -> list[Job]:
    """Three turns, each of which repeats what was said before; the blocks tell how far."""
    first = Job(0, 70, 40, 0.0, prefix=(1, 2))
    second = Job(1, 130, 20, 0.0, parent=0, prefix=(1, 2, 3, 4))
    return [first, second, Job(2, 200, 20, 0.0, parent=1, prefix=(1, 2, 3, 4, 5, 6))]


class Reload(Script):
    """Takes the model off once the first request has ended, and brings it back."""

    def decide(self, view: View) -> Sequence[Action]:
        return super().decide(view) if view.output_tokens[0] >= 5 else ()


def served(jobs: list[Job], script: Script | None = None, models: int = 1, room: int = 24, **limits: Any) -> House:
    """Serve `jobs` with models that are loaded; `room` is pages for KV."""
    tiny = [model(seed) for seed in range(models)]
    memory = sum(-(-m.size // PAGE) for m in tiny) * PAGE + room * PAGE
    house = House(Device.of("cpu"), tiny, Limits(**limits), memory, page_bytes=PAGE, keep_tokens=True, least_kv_share=0)
    house.placement = script
    house.start([Load(m, (0,)) for m in range(models)])
    try:
        assert house.run(jobs, prefix_tokens=BLOCK)
        assert all(job.status == "ok" for job in jobs)
        assert all(e.memory.used == 0 for e in house.engines)
    finally:
        house.hosting.settle()
        house.hosting.apply([Evict(m) for m in range(models) if house.hosting.state[m] != ABSENT])
    assert house.arena.free == house.arena.pages
    return house


def said(jobs: list[Job]) -> list[list[int]]:
    return [job.tokens.tolist() for job in jobs]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_num_seqs": 8, "max_num_batched_tokens": 128},
        {"max_num_seqs": 8, "max_num_batched_tokens": 20},
        {"max_num_seqs": 8, "kv_blocks": 14},
        {"max_num_seqs": 8, "kv_blocks": 14, "swap": True},
    ],
    ids=["batch", "chunks", "recompute", "swap"],
)
def test_what_is_found_changes_no_token(limits: dict[str, Any]) -> None:
    with_cache, without = alike(), alike()
    tight = served(with_cache, **limits)
    served(without, **limits | {"kv_blocks": None}, prefix_caching=False)
    assert said(with_cache) == said(without)
    assert {job.cached for job in without} == {0}
    assert max(job.cached for job in with_cache) == 64  # both blocks, and nothing that only one has
    if "kv_blocks" in limits:
        assert tight.engines[0].planner.preemptions > 0
        assert max(step.kv_used_blocks for step in tight.notes.steps) <= 14


def test_work_that_is_found_is_not_done_again() -> None:
    jobs = alike()
    house = served(jobs, max_num_seqs=1)
    assert [job.cached for job in jobs] == [0, 0] + [64] * 8
    assert house.engines[0].planner.prefilled == sum(job.prompt - job.cached for job in jobs)


def test_turns_find_what_was_said_before_and_answered() -> None:
    turns, again = conversation(), conversation()
    served(turns)
    served(again, prefix_caching=False)
    assert said(turns) == said(again)
    assert [job.cached for job in turns] == [0, 96, 128]  # the trace's blocks that are full at 109 and at 149 tokens
    first, second, third = said(turns)
    assert second[:96] == first[:96]
    assert third[:128] == second[:128]
    assert second[96:110] != first[96:110]


def test_equal_blocks_are_equal_tokens_and_others_are_not() -> None:
    one, two = (asked(Job(n, 80, 1, 0.0, prefix=(5, 6 + n)), 512, BLOCK).tolist() for n in (1, 2))
    assert one[:BLOCK] == two[:BLOCK]
    assert one[BLOCK:64] != two[BLOCK:64]
    assert one[64:80] != two[64:80]
    assert 0 <= min(one) <= max(one) < 512


def test_a_model_that_is_evicted_comes_back_without_its_cache() -> None:
    early, late = Job(0, 75, 5, 0.0, prefix=(1, 2)), Job(1, 76, 5, 0.0, parent=0, think_s=0.4, prefix=(1, 2))
    plain = [Job(0, 75, 5, 0.0, prefix=(1, 2)), Job(1, 76, 5, 0.0, parent=0, think_s=0.4, prefix=(1, 2))]
    served(plain)
    assert plain[1].cached == 64
    house = served([early, late], Reload([], [[Evict(0)], [Load(0, (0,))]]))
    assert house.hosting.loads == 2
    assert late.cached == 0
    assert said([early, late]) == said(plain)


def test_one_models_cache_gives_way_to_anothers_requests() -> None:
    """Memory for one long request at a time: the cache that the first leaves is all there is."""
    jobs = [Job(n, 200, 20, 0.0, model=n % 2, parent=n - 1) for n in range(4)]
    house = served(jobs, models=2, room=2)
    assert all(job.preemptions == 0 for job in jobs)
    assert house.engines[0].kv.per_page * 2 < 2 * 14  # both do not fit


@pytest.mark.parametrize(("option", "cached"), [("--prefix-caching", 64), ("--no-prefix-caching", 0)])
def test_outcomes_say_what_came_from_the_cache(option: str, cached: int, tmp_path: Path) -> None:
    row = {"model": "m", "prompt_tokens": 75, "output_tokens": 3, "prefix_blocks": [5, 6]}
    file = trace_file(tmp_path, [{"arrival_s": 0.01 * n, **row} for n in range(6)], block_tokens=BLOCK)
    words = ["replay", str(file), "--engine", "transformers", "--device", "cpu", "--max-num-seqs", "1",
             "--model-preset", "tiny-llama", option, "--out", str(tmp_path / "runs")]  # fmt: skip
    done = CliRunner().invoke(main, words)
    assert done.exit_code in (0, 3), done.output
    table = Run.open(tmp_path / "runs/fcfs").table("outcomes").sort("request_id").collect()
    assert table["cached_tokens"].to_list() == [0] + [cached] * 5
    limits = json.loads((tmp_path / "runs/fcfs/run.json").read_bytes())["engine"]["limits"]
    assert limits["prefix_caching"] is bool(cached)
    assert table["cached_tokens"].dtype == pl.Int32
