"""Laws of the in-process engine: what batching, chunks and lost places must not change, and what limits must hold."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not here: make test-transformers")
transformers = pytest.importorskip("transformers", reason="transformers is not here: make test-transformers")

from replay.planning.jobs import Job  # noqa: E402
from replay.planning.rules import Rules  # noqa: E402
from replay.torch_engine import engine  # noqa: E402
from replay.torch_engine.device import Device  # noqa: E402
from replay.torch_engine.house import House  # noqa: E402
from replay.torch_engine.limits import Limits  # noqa: E402
from replay.torch_engine.prompts import made_up  # noqa: E402
from tests.replay.torch_engine.tiny import CONFIG, PAGE, ROOM, Served, model, served, several  # noqa: E402
from toolkit.placing import Evict, Load  # noqa: E402


@pytest.fixture(scope="module")
def alone() -> Served:
    return served(several(), max_num_seqs=1)


def test_tokens_are_those_of_the_model_as_transformers_runs_it(alone: Served) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model("llama", **CONFIG)
        plain = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for job, tokens in zip(alone.jobs, alone.tokens, strict=True):
        ids = torch.from_numpy(made_up(job.number, job.prompt, 0, CONFIG["vocab_size"]))[None]  # type: ignore[arg-type]
        with torch.inference_mode():
            while ids.shape[1] < job.prompt + job.output:
                ids = torch.cat([ids, plain(ids).logits[:, -1].argmax(-1)[None]], 1)
        assert ids[0, job.prompt :].tolist() == tokens


def test_a_batch_says_what_each_says_alone(alone: Served) -> None:
    together = served(several(), max_num_seqs=8, max_num_batched_tokens=32)
    assert together.tokens == alone.tokens
    assert len(together.house.notes.steps) < len(alone.house.notes.steps)
    assert len({tuple(tokens) for tokens in alone.tokens}) == len(alone.tokens)  # they could differ


def test_every_request_ends_once_with_its_tokens_in_time() -> None:
    result = served(several(at_once=False), max_num_seqs=4)
    assert len(result.house.ended) == len(result.jobs) == len({job.number for job in result.house.ended})
    for job in result.jobs:
        assert (job.status, job.produced, len(job.times)) == ("ok", job.output, job.output)
        assert job.arrival_s <= job.taken_s <= job.start_s < job.times[0]  # type: ignore[operator]
        assert job.times == sorted(job.times)
        assert job.times[-1] == job.finish_s


@pytest.mark.parametrize("swap", [False, True])
def test_a_lost_place_changes_no_token(alone: Served, swap: bool) -> None:
    tight = served(several(), kv_blocks=9, max_num_seqs=8, swap=swap)
    assert tight.tokens == alone.tokens
    lost = [e for e in tight.house.notes.events if e["kind"] == "preempt"]
    back = [e for e in tight.house.notes.events if e["kind"] == "restore"]
    assert len(lost) == sum(job.preemptions for job in tight.jobs) > 0
    assert [e["bytes"] for e in lost] == ([e["bytes"] for e in lost if e["bytes"]] if swap else [None] * len(lost))
    assert sorted(e["request_id"] for e in back) == (sorted(e["request_id"] for e in lost) if swap else [])
    assert all((job.preempted_s > 0) == (job.preemptions > 0) for job in tight.jobs)


def test_limits_hold_in_every_step() -> None:
    tight = served(several(10), kv_blocks=9, max_num_seqs=3, max_num_batched_tokens=16)
    for step in tight.house.notes.steps:
        assert step.kv_used_blocks <= step.kv_total_blocks == 9
        assert step.running <= 3
        assert 0 < step.prefill_tokens + step.decodes <= 16
    assert tight.house.engines[0].kv.held == 0
    assert tight.house.arena.free == tight.house.arena.pages


def by_length(first_s: float = 0.0) -> list[Job]:
    """Requests that have come when the first step ends, the longest first."""
    outputs = [20, 16, 12, 8, 4]
    return [Job(n, 5, output, first_s, rank=float(output)) for n, output in enumerate(outputs)]


def test_ranks_decide_who_is_next() -> None:
    shortest = served(by_length(), max_num_seqs=1)
    assert [job.number for job in shortest.house.ended] == [4, 3, 2, 1, 0]
    fcfs = served([Job(n, 5, job.output, 0.0) for n, job in enumerate(by_length())], max_num_seqs=1)
    assert [job.number for job in fcfs.house.ended] == [0, 1, 2, 3, 4]


def test_a_scheduler_may_order_the_queue() -> None:
    rules = Rules(order=lambda jobs, now_s: np.argsort([-job.number for job in jobs]).tolist())
    assert [job.number for job in served(by_length(), rules=rules, max_num_seqs=1).house.ended] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("swap", [False, True])
def test_who_ranks_before_displaces(swap: bool) -> None:
    jobs = [Job(0, 20, 120, 0.0, rank=9.0), Job(1, 5, 3, 0.05, rank=1.0)]
    result = served(jobs, rules=Rules(displace=True), max_num_seqs=1, swap=swap)
    assert [job.number for job in result.house.ended] == [1, 0]
    assert jobs[0].preemptions == 1
    assert result.tokens[0] == served([Job(0, 20, 120, 0.0)]).tokens[0]


def test_a_rank_moves_along_its_curve() -> None:
    """After 5 tokens each goes behind the other, which is round robin by fives."""
    rules = Rules(boundaries=(5, 10), offsets=np.array([[0.0, 10.0, 20.0]]), displace=True)
    result = served([Job(n, 4, 12, 0.0, rank=float(n)) for n in (0, 1)], rules=rules, max_num_seqs=1, swap=True)
    at = sorted((at, job.number) for job in result.jobs for at in job.times)
    turns = [(n, len(list(run))) for n, run in itertools.groupby(n for _, n in at)]
    assert turns == [(0, 5), (1, 5), (0, 5), (1, 5), (0, 2), (1, 2)]


def test_lanes_take_turns() -> None:
    jobs = [Job(n, 5, 2, 0.0, lane=int(n >= 4)) for n in range(6)]
    result = served(jobs, rules=Rules(lanes=2, cycle=(0, 1)), max_num_seqs=1)
    assert [job.number for job in result.house.ended] == [0, 4, 1, 5, 2, 3]


def test_who_has_waited_long_enough_is_next() -> None:
    patient = [Job(0, 5, 60, 0.0), *(Job(n, 5, 30, 0.0, rank=1.0) for n in (1, 2))]
    jobs = [*patient, Job(3, 5, 2, 0.0, rank=2.0, after_s=0.001, shift=-2.0)]
    assert [job.number for job in served(jobs, max_num_seqs=1).house.ended][:2] == [0, 3]


def test_what_cannot_be_served_is_said() -> None:
    jobs = [Job(0, 1000, 100, 0.0), Job(1, 200, 10, 0.0), Job(2, 0, 3, 0.0), Job(3, 20, 5, 0.0)]
    served(jobs, kv_blocks=8)
    assert [job.status for job in jobs] == ["rejected"] * 3 + ["ok"]
    assert jobs[0].error == "1100 tokens exceed max_model_len 1024"
    assert jobs[1].error == "needs 14 KV blocks, the engine has 8"
    assert jobs[2].error == "asks for no prompt or no output tokens"


def test_a_turn_waits_for_the_one_before_and_its_think_time() -> None:
    first, turn = Job(0, 5, 10, 0.0), Job(1, 5, 3, 0.0, parent=0, think_s=0.05, rank=0.0, rise=1.0)
    served([first, turn])
    assert first.finish_s is not None
    assert turn.arrival_s == first.finish_s + 0.05
    assert turn.rank == turn.arrival_s


def test_what_ended_is_observed_and_ranks_follow() -> None:
    seen: list[int] = []

    def observe(jobs: list[Job], now_s: float) -> bool:
        seen.extend(job.number for job in jobs)
        return True

    def arrived(jobs: list[Job], now_s: float) -> None:
        for job in jobs:
            job.rank = float(-job.number if seen else job.number)

    rules = Rules(arrived=arrived, observe=observe, observe_every_s=0.001)
    result = served([Job(n, 5, 8, 0.0) for n in range(5)], rules=rules, max_num_seqs=1)
    ended = [job.number for job in result.house.ended]
    assert ended == [0, 4, 3, 2, 1] or ended == [0, 1, 4, 3, 2]  # the next may have begun when the first was observed
    assert seen[:1] == [0]


class Starved:
    """A model whose activations find no memory for more than so many tokens at once."""

    def __init__(self, forward, most: int):  # type: ignore[no-untyped-def]
        self.forward, self.most = forward, most

    def __call__(self, parts):  # type: ignore[no-untyped-def]
        if sum(count for _, count in parts) > self.most:
            raise torch.OutOfMemoryError("no memory")
        return self.forward(parts)


@pytest.mark.parametrize("most", [5, 0])
def test_a_step_without_memory_is_taken_in_parts(most: int, alone: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = engine.Forward
    monkeypatch.setattr(engine, "Forward", lambda model, kv: Starved(forward(model, kv), most))
    result = served(several(), max_num_seqs=4, max_num_batched_tokens=64)
    assert result.house.notes.halved > 0
    if most:
        assert result.tokens == alone.tokens
    else:
        assert {job.status for job in result.jobs} == {"error"}
        assert {job.error for job in result.jobs} == {"no memory is left for its activations"}
    assert result.house.arena.free == result.house.arena.pages


def test_a_stop_leaves_the_rest_undone() -> None:
    house = House(Device.of("cpu"), [model()], Limits(max_num_seqs=1), model().size + ROOM, page_bytes=PAGE)
    house.start([Load(0, (0,))])
    stops = iter([False] * 30 + [True] * 100)
    assert not house.run(several(), stopped=lambda: next(stops))
    assert 0 < house.done < 12
    house.hosting.apply([Evict(0)])
