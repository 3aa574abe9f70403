"""Micro-batches against what can be worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest

from replay.engines.micro_batch import MicroBatch
from replay.schedulers.fcfs import FCFS
from replay.schedulers.sjf import SJF
from replay.simulation.setup import Limits
from tests.replay.micro_batches import batches, outcomes, serve
from tests.replay.simulations import Affine, make_trace
from toolkit.errors import SettingFailure

LIMITS = Limits(kv_blocks=1_000, max_num_seqs=64, max_num_batched_tokens=100)
STEP = Affine(step_s=1.0, token_s=0.0)


def requests(*rows: tuple[float, int, int]) -> pl.DataFrame:
    names = ("arrival_s", "prompt_tokens", "output_tokens")
    return make_trace([dict(zip(names, row, strict=True)) for row in rows])


def test_a_batch_takes_the_sum_of_its_steps():
    """Prompts of 60, 60 and 30 tokens in a budget of 100; outputs of 3, 1 and 5."""
    model = Affine(step_s=0.5, token_s=0.01, sequence_s=0.1, kv_token_s=0.001)
    found = outcomes(serve(requests((0, 60, 3), (0, 60, 1), (0, 30, 5)), FCFS(), LIMITS, model, batch_wait_s=0.0))
    full = 0.5 + 0.01 * 100 + 0.1 * 1 + 0.001 * (60 + 40)
    rest = 0.5 + 0.01 * 50 + 0.1 * 2 + 0.001 * ((20 + 40) + 30)
    two = [0.5 + 0.01 * 2 + 0.1 * 2 + 0.001 * (61 + n + 31 + n) for n in range(2)]
    one = [0.5 + 0.01 + 0.1 + 0.001 * (31 + n) for n in range(2, 4)]
    assert found["first_token_s"].to_list() == pytest.approx([full, full + rest, full + rest])
    assert found["finish_s"].to_list() == pytest.approx([full + rest + sum(two) + sum(one)] * 3)


def test_requests_at_a_steady_pace_share_batches():
    """Every 1 s one arrives, a batch lasts 4 s: after the first, each batch takes the four that came meanwhile."""
    trace = requests(*((float(n), 1, 4) for n in range(41)))
    found = batches(serve(trace, FCFS(), LIMITS, STEP, batch_wait_s=0.0))
    assert found["start_s"].to_list() == [4.0 * n for n in range(11)]
    assert found["request_id"].list.len().to_list() == [1] + [4] * 10


def test_the_batch_waits_for_more_but_not_when_it_is_full():
    trace = requests((0, 1, 1), (0.4, 1, 1), (0.6, 1, 1), (10, 1, 1), (10.2, 1, 1), (10.3, 1, 1))
    found = batches(serve(trace, FCFS(), LIMITS, STEP, batch_wait_s=0.5, batch_size=2))
    assert found.select("start_s", "request_id").rows() == [
        (0.4, [0, 1]),
        (1.4 + 0.5, [2]),
        (10.2, [3, 4]),
        (11.2 + 0.5, [5]),
    ]


def test_who_arrives_as_the_wait_ends_is_taken():
    found = batches(serve(requests((0, 1, 1), (0.5, 1, 1), (0.501, 1, 1)), FCFS(), LIMITS, STEP, batch_wait_s=0.5))
    assert found["request_id"].to_list() == [[0, 1], [2]]


def test_an_idle_engine_looks_at_its_polls():
    trace = requests((0.3, 1, 2), (1.5, 1, 2), (3.6, 1, 2))
    found = batches(serve(trace, FCFS(), LIMITS, STEP, batch_wait_s=0.0, idle_poll_s=1.0))
    assert found["start_s"].to_list() == [1.0, 3.0, 5.0]


def test_the_batch_is_formed_in_rank_order():
    trace = requests((0, 1, 9), (0, 1, 2), (0, 1, 8), (0, 1, 3))
    found = batches(serve(trace, SJF(), LIMITS, STEP, batch_wait_s=0.0, batch_size=2))
    assert found["request_id"].list.sort().to_list() == [[1, 3], [0, 2]]
    assert found["end_s"].to_list() == [3.0, 12.0]


def test_a_batch_takes_what_the_memory_holds_to_the_end():
    limits = Limits(kv_blocks=10, max_num_batched_tokens=1_000)
    trace = requests((0, 60, 5), (0, 60, 5), (0, 60, 5), (0, 160, 5))
    folder = serve(trace, FCFS(), limits, STEP, batch_wait_s=0.0)
    assert batches(folder)["request_id"].to_list() == [[0, 1], [2]]
    assert folder.table("timeline")["kv_used_blocks"].to_list() == [8, 4]
    assert outcomes(folder)["error"][3] == "needs 11 KV blocks, the engine has 10"


def test_batches_of_any_size_wait_as_the_formula_says():
    """M/D/1 with unlimited batches: a share D / (D + e^(-λD)/λ) finds the engine busy, and waits D/2 on average."""
    service, count, rng = 1.0, 60_000, np.random.default_rng(3)
    limits = Limits(kv_blocks=100_000, max_num_seqs=512, max_num_batched_tokens=512)
    for rate in (0.7, 3.0):
        arrival = np.cumsum(rng.exponential(1 / rate, count))
        rows = pl.DataFrame({"arrival_s": arrival, "prompt_tokens": 1, "output_tokens": 1})
        found = outcomes(serve(make_trace(rows), FCFS(), limits, STEP, batch_wait_s=0.0, batch_size=512))
        waited = (found["start_s"] - found["arrival_s"]).to_numpy()
        busy = service / (service + math.exp(-rate * service) / rate)
        stretches = np.array([stretch.mean() for stretch in np.array_split(waited, 30)])
        error = stretches.std(ddof=1) / math.sqrt(30)
        assert abs(waited.mean() - busy * service / 2) < 4 * error < 0.02


def test_size_and_waits_are_checked():
    with pytest.raises(SettingFailure, match="max_num_seqs, 64"):
        MicroBatch(STEP, LIMITS, batch_size=65)
    with pytest.raises(SettingFailure, match="from 0 to 86,400"):
        MicroBatch(STEP, LIMITS, batch_wait_s=-0.1)
    with pytest.raises(SettingFailure, match="one instance"):
        MicroBatch(STEP, Limits(kv_blocks=10, instances=2))


class Remembering:
    """Asked for the order of each queue: longest prompt first; and told what has ended."""

    observe_every_s = 2.0

    def __init__(self) -> None:
        self.seen: list[tuple[float, list[int]]] = []
        self.queues: list[tuple[float, list[int]]] = []

    def rank(self, requests: pl.DataFrame, now_s: float) -> np.ndarray:
        return requests["arrival_s"].to_numpy()

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> None:
        self.seen.append((now_s, outcomes["request_id"].sort().to_list()))

    def order(self, waiting, now_s: float) -> np.ndarray:
        self.queues.append((now_s, waiting["prompt_tokens"].tolist()))
        return np.argsort(-waiting["prompt_tokens"])


def test_a_scheduler_is_asked_before_each_batch_and_told_what_has_ended():
    trace = requests((0, 1, 3), (0, 5, 3), (0, 3, 3), (0, 2, 3), (0, 4, 3), (20, 1, 1))
    scheduler = Remembering()
    found = batches(serve(trace, scheduler, LIMITS, STEP, batch_wait_s=0.0, batch_size=2))
    assert found["request_id"].list.sort().to_list() == [[1, 4], [2, 3], [0], [5]]
    assert scheduler.queues == [(0.0, [1, 5, 3, 2, 4]), (3.0, [1, 3, 2])]
    assert [(now, ids) for now, ids in scheduler.seen if ids] == [(2.0, [1, 4]), (6.0, [2, 3]), (20.0, [0])]


class Latest:
    """Ranks who arrived by when it was last told of an end: what came since goes first."""

    observe_every_s = 1.0

    def __init__(self) -> None:
        self.told = 0

    def rank(self, requests: pl.DataFrame, now_s: float) -> np.ndarray:
        return np.full(len(requests), -float(self.told))

    def observe(self, outcomes: pl.DataFrame, now_s: float) -> None:
        self.told += len(outcomes)


def test_what_arrives_during_a_batch_is_ranked_by_what_is_known_when_the_next_is_formed():
    """A batch lasts nine intervals; all that came meanwhile is ranked anew at its end, so ties go by arrival."""
    trace = requests((0, 1, 9), (0.5, 1, 3), (4, 1, 3), (8, 1, 3), (8.5, 1, 3))
    found = batches(serve(trace, Latest(), LIMITS, STEP, batch_wait_s=0.0, batch_size=1))
    assert found["request_id"].list.first().to_list() == [0, 1, 2, 3, 4]
