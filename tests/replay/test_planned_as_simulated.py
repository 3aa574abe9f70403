"""What is planned in Python a step at a time is what the compiled simulation does, whoever schedules."""

import numpy as np
import polars as pl
import pytest

from replay.engines.transformers_rules import Ruled
from replay.planning.jobs import Job
from replay.planning.memory import Memory, Numbers
from replay.planning.planner import Planner
from replay.simulation.setup import Limits
from tests.replay.simulations import Affine, make_trace, simulate
from toolkit import plugins

REQUESTS = 60


def trace() -> pl.DataFrame:
    """More at once than there are places and memory."""
    rng = np.random.default_rng(5)
    return make_trace(
        pl.DataFrame(
            {
                "arrival_s": np.sort(rng.uniform(0, 6, REQUESTS)),
                "model": "m",
                "tenant": [f"t{n % 3}" for n in range(REQUESTS)],
                "tier": [("premium", "standard", "batch")[n % 3] for n in range(REQUESTS)],
                "prompt_tokens": rng.integers(3, 200, REQUESTS),
                "output_tokens": rng.integers(1, 90, REQUESTS),
            }
        )
    )


def planned(jobs: list[Job], planner: Planner, times: Affine) -> None:
    """Serve them in the time that the simulation's steps take."""
    coming, now_s = list(jobs), 0.0
    while coming or planner.running or len(planner.line):
        while coming and coming[0].arrival_s <= now_s:
            planner.arrive(coming[0], coming.pop(0).arrival_s)
        parts = planner.plan(now_s)
        if not parts:
            now_s = coming[0].arrival_s
            continue
        now_s += times.step_s + times.token_s * sum(tokens for _, tokens in parts)
        planner.take_in(parts, now_s)


SCHEDULERS = (
    "fcfs", "sjf", "srpt", "las", "mlfq", "vtc", "priority", "uniboost", "moore-hodgson", "ltr:starve_s=0.4567",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "prefill_first"), [*((name, False) for name in SCHEDULERS), ("las", True), (SCHEDULERS[-1], True)]
)
def test_planned_step_by_step_it_is_what_is_simulated(name: str, prefill_first: bool) -> None:
    requests, times, scheduler = trace(), Affine(), plugins.create("scheduler", name)
    limits = Limits(60, max_num_seqs=6, max_num_batched_tokens=128, prefix_caching=False, prefill_first=prefill_first)
    told = simulate(requests, scheduler, limits, times).outcomes
    ruled = Ruled(scheduler, requests, np.full(REQUESTS, -1, np.int64))
    jobs = ruled.jobs([0] * REQUESTS)
    planned(jobs, Planner(limits, ruled.rules, Memory(Numbers(60), 16, caching=False)), times)
    assert [job.preemptions for job in jobs] == told["preemptions"].to_list()
    for column, values in (("start_s", [j.start_s for j in jobs]), ("finish_s", [j.finish_s for j in jobs])):
        assert np.allclose(values, told[column].to_numpy(), atol=1e-6), column
    assert sum(job.preemptions for job in jobs) > 0
