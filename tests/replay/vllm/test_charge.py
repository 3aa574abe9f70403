"""The scheduler in charge inside vLLM, without vLLM: what is announced, who is next, what is told afterwards."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from replay.vllm import hints
from replay.vllm.charge import Charge
from replay.vllm.waiting import Ranked
from tests.replay.simulations import make_trace
from toolkit.errors import Failure
from toolkit.plugins import BUILTIN

OUTPUTS = [60, 5, 20, 7, 40, 3]


def trace(outputs: list[int] = OUTPUTS) -> pl.DataFrame:
    rows = [
        {"arrival_s": 0.1 * n, "prompt_tokens": 10, "output_tokens": o, "tenant": "ab"[n % 2], "tier": "standard"}
        for n, o in enumerate(outputs)
    ]
    return make_trace(rows)


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def announced(spec: str, frame: pl.DataFrame) -> Charge:
    charge = Charge(Clock())
    told = hints.announcement(7, spec, frame, np.zeros(len(frame), bool))
    assert charge.hear(told) == {hints.SCHEDULER: spec}
    return charge


def come(charge: Charge, n: int, arrival_s: float, name: str = "r") -> None:
    said = {hints.RUN: 7, hints.REQUEST: n, hints.ARRIVAL: arrival_s}
    charge._clock.now_s = max(charge._clock.now_s, 1_000.0 + arrival_s)
    job = charge.meet(f"{name}{n}", said, 10, OUTPUTS[n], 1_000.0 + arrival_s, 0)
    charge.line.put(job, charge.now_s)


def test_what_the_cache_has_of_a_prompt_is_no_work() -> None:
    charge = announced("uniboost", trace())
    works = [
        charge.meet(f"r{n}", {hints.RUN: 7, hints.REQUEST: n, hints.ARRIVAL: 0.1 * n}, 10, 5, 1_000.0, 0, cached).work
        for n, cached in enumerate((0, 8))
    ]
    assert works[0] > 0
    assert works[1] == pytest.approx(works[0] / 5)


def serve(charge: Charge) -> list[int]:
    """One after the other, a second each."""
    order = []
    while (job := charge.line.head(charge.now_s)) is not None:
        charge.line.take(job)
        charge.starts_to_run(job)
        charge._clock.now_s += 1.0
        charge.served(job, job.output, job.prompt + job.output)
        order.append(job.number)
        charge.ended(next(name for name, live in charge.jobs.items() if live is job), ok=True)
        charge.tick()
    return order


@pytest.mark.parametrize("name", BUILTIN["scheduler"])
def test_every_scheduler_can_be_in_charge(name):
    charge = announced(name, trace())
    charge.line.put(charge.meet("somebody's", {}, 3, 3, 1_000.0, 0), 0.0)
    for n in range(6):
        come(charge, n, 0.1 * n)
    other, *order = sorted(serve(charge), key=lambda n: n >= 0)
    assert other < 0
    assert sorted(order) == list(range(6))
    if name in ("sjf", "srpt", "trail"):
        assert order == [5, 1, 3, 2, 4, 0]
    if name in ("fcfs", "edf"):
        assert order == list(range(6))
    starts = hints.starts_of(charge.hear({hints.RUN: 7, hints.ASK: 1}))
    assert starts["request_id"].to_list() == order
    assert starts["start_s"].is_sorted()
    assert (starts["start_s"] >= starts["came_s"]).all()


def test_ranks_move_as_tokens_are_served():
    charge = announced("srpt", trace())
    come(charge, 0, 0.0)
    job = charge.line.head(0.0)
    charge.line.take(job)
    charge.starts_to_run(job)
    before = charge.lateness(job)
    charge.served(job, 50, 60)
    assert (before, charge.lateness(job)) == (60.0, 10.0)
    charge.loses(job)
    charge.line.put(job, 0.0)
    come(charge, 2, 0.2)
    assert serve(charge) == [0, 2]


def test_a_turn_ranks_by_when_it_really_came():
    frame = trace([10, 10, 10]).with_columns(
        parent_id=pl.Series([None, 0, None], dtype=pl.Int64), think_s=pl.Series([None, 1.0, None], dtype=pl.Float64)
    )
    charge = Charge(Clock())
    charge.hear(hints.announcement(7, "fcfs", frame, np.array([False, True, False])))
    come(charge, 2, 0.2)
    come(charge, 1, 9.0)
    come(charge, 0, 0.0)
    assert serve(charge) == [0, 2, 1]


def test_requests_of_others_come_first_and_strange_hints_are_nobodys():
    charge = announced("sjf", trace())
    come(charge, 5, 0.5)
    for n, said in enumerate(
        [{}, {hints.RUN: 7, hints.REQUEST: "5"}, {hints.RUN: 7, hints.REQUEST: 99}, {hints.RUN: 8}]
    ):
        charge.line.put(charge.meet(f"o{n}", said, 3, 3, 1_001.0, 0), 0.0)
    come(charge, 5, 0.6, name="again")  # while it lives
    first = charge.line.head(0.0)
    assert [name for name, job in charge.jobs.items() if job is first] == ["o0"]
    assert len(charge.line) == 6
    assert sum(job.number == 5 for job in charge.jobs.values()) == 1


def test_before_anything_is_announced_the_engines_priority_decides():
    charge = Charge(Clock())
    for name, priority in (("a", 2), ("b", 0), ("c", 1)):
        charge.line.put(charge.meet(name, {}, 3, 3, 1_000.0, priority), 0.0)
    assert charge.line.head(0.0) is charge.jobs["b"]


def test_a_new_replay_takes_over_and_keeps_who_waits():
    charge = announced("sjf", trace())
    come(charge, 0, 0.0)
    charge.hear(hints.announcement(8, "fcfs", trace(), np.zeros(6, bool)))
    assert len(charge.line) == 1
    said = {hints.RUN: 8, hints.REQUEST: 0, hints.ARRIVAL: 0.0}
    charge.line.put(charge.meet("new", said, 10, 60, 2_000.0, 0), 0.0)
    assert charge.line.head(0.0) is charge.jobs["r0"]
    assert charge.hear({hints.RUN: 7, hints.ASK: 1}) == {}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({hints.SCHEDULER: "/tmp/evil.py:Evil"}, "no scheduler is called"),
        ({hints.SCHEDULER: "srtp"}, "srpt"),
        ({hints.TABLE: "no base64"}, "no table"),
        ({hints.TABLE: "AAAA"}, "no table"),
    ],
)
def test_what_cannot_be_announced_is_refused_and_changes_nothing(changes, what):
    charge = announced("sjf", trace())
    told = hints.announcement(9, "sjf", trace(), np.zeros(6, bool))
    with pytest.raises(Failure, match=what):
        charge.hear(told | changes)
    assert charge.run == 7


def test_whose_patience_ends_in_the_middle_of_a_step_waits_for_the_next():
    """The engine gives memory to whom it sees first, and then takes the first: both must be the same."""
    charge = announced("ltr:starve_s=5", trace())
    queue = Ranked(charge)
    for n in (0, 1):
        said = {hints.RUN: 7, hints.REQUEST: n, hints.ARRIVAL: 0.0}
        charge.meet(f"r{n}", said, 10, OUTPUTS[n], 1_000.0, 0)
        queue.add_request(SimpleNamespace(request_id=f"r{n}"))
        charge._clock.now_s += 2.0
    queue.begin_step()
    seen = queue.peek_request()
    charge._clock.now_s += 3.0
    assert queue.pop_request() is seen
    assert (seen.request_id, queue.peek_request().request_id, len(queue)) == ("r1", "r0", 1)
    charge.ended("r0", ok=False)  # whose last token comes when it has lost its place ends before it leaves the queue
    queue.remove_requests([seen, queue.peek_request()])
    assert not queue
    assert list(queue) == []
